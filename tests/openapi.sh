#!/bin/sh
# Calls every address that /openapi.json of a running config service and of a running agent describes, with inputs made up
# from the description: no answer may be a server error, or one that is not described. A client that a public generator makes
# of the agent's description lists batches.
set -eu
cd "$(dirname "$0")/.."

venv=target/schemathesis
if [ ! -x "$venv/bin/openapi-python-client" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/openapi/requirements.txt
fi
folder=$(mktemp -d)
pids=
# shellcheck disable=SC2086
trap 'kill $pids 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
check() {
    "$venv/bin/schemathesis" --config-file tests/openapi/schemathesis.toml run "http://127.0.0.1:$1/openapi.json" \
        --wait-for-schema 30 --header "Authorization: Bearer openapi" || {
        cat "$folder"/*.log >&2
        exit 1
    }
}

port=$(free_port)
CONFIG_STORE_URL="sqlite://$folder/config.db" CONFIG_HTTP_ADDR="127.0.0.1:$port" CONFIG_SERVICE_API_KEY=openapi \
    target/debug/punctual-config-service serve 2>"$folder/config-service.log" &
pids="$pids $!"
check "$port"

port=$(free_port)
CONFIG_STORE_URL="sqlite://$folder/agent-config.db" CONFIG_HTTP_ADDR=127.0.0.1:0 \
    CONFIG_LAST_KNOWN_GOOD_PATH="$folder/known" BATCH_STORE_URL="sqlite://$folder/punctual.db" \
    BATCH_HTTP_ADDR="127.0.0.1:$port" BATCH_API_KEY=openapi BATCH_LOG=info \
    target/debug/punctual-agent run --import data/preferences/sample.ndjson >"$folder/agent.log" 2>&1 &
pids="$pids $!"
check "$port"
PATH="$PWD/$venv/bin:$PATH" "$venv/bin/openapi-python-client" generate --url "http://127.0.0.1:$port/openapi.json" \
    --meta none --output-path "$folder/generated" >"$folder/generate.log" 2>&1 || {
    cat "$folder/generate.log" >&2
    exit 1
}
PYTHONPATH="$folder" "$venv/bin/python" tests/openapi/list_batches.py generated "http://127.0.0.1:$port"
