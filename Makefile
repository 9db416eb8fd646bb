# Everything one does with a checkout. Needs Python 3.11+ and make, nothing else; `uv` is used where it is found.
# The first target that needs the environment makes it (.venv), exactly as locked, and the next ones find it made.

# The first of these that is 3.11 or newer; or say PYTHON=…
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$python"; break; }; done)
# Which tests `make test` runs, and `make check` at its end; empty: none
TESTS = tests
# How long `make fuzz` runs
FUZZ_SECONDS = 300

BIN = .venv/bin
READY = .venv/.installed
# Whom `make bench-runs PEERS=1` measures beside us: nothing else needs them (nor npm)
PEERS_IN = tests/bench/peers
PEERS_READY = $(PEERS_IN)/.venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install check test fuzz faults demo dev bench-ingest bench-dedup bench-verify bench-spool bench-runs bench-flood bench-fairness bench-memory bench-live bench-curve lint format types lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

install: $(READY) ## make .venv with all that is locked, and the project itself

check: $(READY) ## format, lint, types, import rule, then the tests; stops at the first failure
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/unit/test_imports.py
	$(if $(strip $(TESTS)),$(BIN)/pytest $(TESTS))

test: $(READY) ## the tests, against real services (embedded ones unless told otherwise); TESTS=… runs some, PROCESSES=2 in two processes
	$(BIN)/pytest $(if $(PROCESSES),-n $(PROCESSES) --dist loadfile --max-worker-restart 0) $(TESTS)

fuzz: $(READY) ## made-up and forged requests, and the parsers, for FUZZ_SECONDS (300)
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)

faults: $(READY) ## everything is killed, frozen and cut off for five minutes; then the log is checked
	$(BIN)/python -m tests.faultrun

demo: $(READY) ## a webhook comes in, a worker is killed, the work is done: in some 20 s, then all is gone
	$(BIN)/headrace demo

dev: $(READY) ## all processes and stores on this machine, until Ctrl-C; data stays in .headrace
	$(BIN)/headrace dev

bench-ingest: $(READY) ## how many webhooks a second are acknowledged, and how soon
	$(BIN)/python -m tests.bench.ingest

bench-dedup: $(READY) ## the same with millions of deliveries and dedup keys in the log already
	$(BIN)/python -m tests.bench.dedup

bench-verify: $(READY) ## what each provider's signature costs, in µs
	$(BIN)/python -m tests.bench.verify

bench-spool: $(READY) ## what ingest acknowledges while PostgreSQL is away, and how soon the log has it afterwards
	$(BIN)/python -m tests.bench.spool

bench-runs: $(READY) $(if $(PEERS),$(PEERS_READY)) ## how many runs a second are finished, and how soon; PEERS=1: beside DBOS and Restate
	$(BIN)/python -m tests.bench.runs $(if $(PEERS),--peers)

bench-flood: $(READY) ## what a person who waits for POST /run notices of a flood of webhooks
	$(BIN)/python -m tests.bench.flood

bench-fairness: $(READY) ## how long ten runs of one workspace wait behind ten thousand of another
	$(BIN)/python -m tests.bench.fairness

bench-memory: $(READY) ## what each process holds after 10,000 runs, and after 100,000
	$(BIN)/python -m tests.bench.memory

bench-live: $(READY) ## what watching costs Redis, and how soon a thousand watchers know
	$(BIN)/python -m tests.bench.live

bench-curve: $(READY) ## what a run costs as nodes, tables, workers, histories and sleepers grow
	$(BIN)/python -m tests.bench.curve

lint: $(READY) ## ruff's rules
	$(BIN)/ruff check .

format: $(READY) ## write all files as ruff formats them
	$(BIN)/ruff format .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

lock: ## resolve the dependencies anew into requirements.lock (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --all-extras --python-version 3.11 \
		pyproject.toml -o requirements.lock

clean: ## remove .venv, node_modules, caches and build output; the data in .headrace stays
	rm -rf .venv dist build *.egg-info tests/vendors/node/node_modules $(PEERS_IN)/.venv $(PEERS_IN)/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two installs: one that accepts only what is locked by hash, then the project, which has no hash. The second one
# fetches nothing, because its build backend is locked too. Without a working .venv a new one replaces it.
$(READY): requirements.lock pyproject.toml
	@set -e; \
	if command -v uv >/dev/null 2>&1; then \
		echo "making .venv with uv"; \
		$(BIN)/python -c '' 2>/dev/null || uv venv -q --clear --python "$(or $(PYTHON),>=3.11)" .venv; \
		uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock; \
		uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
			python='$(PYTHON)'; \
			"$${python:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
				echo "expected Python 3.11 or newer, got none ($${python:-python3}): install one, or uv, or say make PYTHON=…" >&2; \
				exit 1; }; \
			"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
				echo "expected $$python to have venv and ensurepip: install python3-venv (or your system's name for it), or uv" >&2; \
				exit 1; }; \
			"$$python" -m venv --clear .venv; }; \
		echo "making .venv with pip (with uv it takes seconds)"; \
		$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock; \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi; \
	touch $@

$(PEERS_READY): $(PEERS_IN)/requirements.txt $(PEERS_IN)/node/package-lock.json $(READY)
	$(BIN)/python -m venv --clear $(PEERS_IN)/.venv
	$(PEERS_IN)/.venv/bin/python -m pip install -q --disable-pip-version-check -r $(PEERS_IN)/requirements.txt
	cd $(PEERS_IN)/node && npm ci --ignore-scripts
	touch $@
