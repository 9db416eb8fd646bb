#!/bin/sh
# Writes the .env that compose.yaml asks for, with random secrets of your own, beside compose.yaml. Never over one that
# exists: the passwords in it are those that the database knows.
set -eu
cd "$(dirname "$0")/.."
file=.env
if [ -e "$file" ]; then
  echo "$file exists already and stays as it is" >&2
  exit 1
fi
# Hexadecimal, because a password becomes part of an address (postgresql://user:password@…).
password() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
umask 077
cat >"$file" <<END
# Keep a copy of this where secrets are kept: without HEADRACE_SECRET_KEY the secrets of sources cannot be read.
HEADRACE_SECRET_KEY=$(head -c 32 /dev/urandom | base64)

# PostgreSQL's superuser, for the migration only, and a login for each process.
POSTGRES_PASSWORD=$(password)
HEADRACE_INGEST_PASSWORD=$(password)
HEADRACE_WORKER_PASSWORD=$(password)
HEADRACE_RELAY_PASSWORD=$(password)
HEADRACE_OPERATOR_PASSWORD=$(password)

# The port of ingest on 127.0.0.1.
HEADRACE_PORT=8080
# Where senders reach it through your proxy, such as https://hooks.example.com: for those that sign the URL.
HEADRACE_PUBLIC_URL=

# Where spans go; empty: nowhere. With \`docker compose --profile telemetry up -d\`: http://collector:4318
OTEL_EXPORTER_OTLP_ENDPOINT=
END
echo "$file written" >&2
