#!/bin/sh
# Calls every address that /openapi.json of a running config service describes, with inputs made up from the
# description: no answer may be a server error, or one that is not described. The first argument is the service's
# program.
set -eu
cd "$(dirname "$0")/.."
service=${1:-target/debug/punctual-config-service}

venv=target/schemathesis
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/openapi/requirements.txt
fi
folder=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
CONFIG_STORE_URL="sqlite://$folder/config.db" CONFIG_HTTP_ADDR="127.0.0.1:$port" CONFIG_SERVICE_API_KEY=openapi \
    "$service" serve 2>"$folder/log" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

"$venv/bin/schemathesis" --config-file tests/openapi/schemathesis.toml run "http://127.0.0.1:$port/openapi.json" \
    --wait-for-schema 30 --header "Authorization: Bearer openapi" || {
    cat "$folder/log" >&2
    exit 1
}
