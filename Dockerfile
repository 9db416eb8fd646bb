# Headrace's image: one for every process; the command says which (`ingest`, `worker --queue webhook`, `relay`, …).
#
# Nothing gets in that requirements.lock does not name by hash, build backend included. The lock holds the extras for
# development too, so deploy/locked_for.py picks the entries that production needs; pip would refuse a list with
# something missing. That keeps one lock, where a second file could drift, and `pip install -c lock` checks no hashes.
# Only wheels are installed: nothing is compiled, and a package without a wheel fails the build.
#
# Own node types: FROM headrace:local, `USER root`, pip install your package into /opt/headrace, `USER headrace`.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS builder
# Empty unless given with --build-arg: where packages come from, if not from PyPI.
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_REQUIRE_VIRTUALENV=1
WORKDIR /build
RUN python3 -m venv /opt/build && python3 -m venv /opt/headrace
COPY pyproject.toml requirements.lock ./
COPY deploy/locked_for.py deploy/
RUN python3 deploy/locked_for.py >production.txt \
 && python3 deploy/locked_for.py hatchling >backend.txt \
 && /opt/headrace/bin/pip install -q --require-hashes -r production.txt \
 && /opt/build/bin/pip install -q --require-hashes -r backend.txt
COPY README.md LICENSE ./
COPY events events
COPY ingest ingest
COPY executor executor
COPY migrations migrations
# The project itself, which has no hash: it fetches nothing.
RUN /opt/build/bin/python -m hatchling build -t wheel -d dist \
 && /opt/headrace/bin/pip install -q --no-index --no-deps dist/*.whl \
 && /opt/headrace/bin/pip check \
 && /opt/headrace/bin/headrace version

FROM ${PYTHON_IMAGE}
# A new volume that is mounted there takes its owner and mode from the image: ingest's spool must be its own.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /srv/headrace headrace \
 && install -d -o headrace -g headrace -m 700 /var/lib/headrace/spool
COPY --from=builder /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Where a headrace.toml may be mounted. Nothing is written here or anywhere else but /tmp and ingest's spool.
WORKDIR /srv/headrace
USER headrace
ENTRYPOINT ["headrace"]
CMD ["--help"]
