#!/bin/sh
# Calls every address that /openapi.json of a running config service and of a running agent describes, with inputs made up
# from the description: no answer may be a server error, or one that is not described. A public generator of clients takes
# all of both descriptions, and the agent's client lists batches.
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
# The address of a server, under its name in the line that it writes when it is ready.
address() {
    for _ in $(seq 300); do
        if [ -e "$folder/$2" ]; then
            python3 -c 'import json, sys; print(json.load(open(sys.argv[2]))[sys.argv[1]])' "$1" "$folder/$2"
            return
        fi
        sleep 0.1
    done
    cat "$folder"/*.log >&2
    return 1
}
check() {
    "$venv/bin/schemathesis" --config-file tests/openapi/schemathesis.toml run "$1/openapi.json" \
        --header "Authorization: Bearer openapi" || {
        cat "$folder"/*.log >&2
        exit 1
    }
    PATH="$PWD/$venv/bin:$PATH" "$venv/bin/openapi-python-client" generate --url "$1/openapi.json" --fail-on-warning \
        --config tests/openapi/generator.yaml --meta none --output-path "$folder/$2" >"$folder/generate.log" 2>&1 || {
        cat "$folder/generate.log" >&2
        exit 1
    }
}

CONFIG_STORE_URL="sqlite://$folder/config.db" CONFIG_HTTP_ADDR=127.0.0.1:0 CONFIG_SERVICE_API_KEY=openapi \
    target/debug/punctual-config-service serve --ready-file "$folder/service" 2>"$folder/config-service.log" &
pids="$pids $!"
url=$(address config_database service)
check "$url" config_database_client

CONFIG_STORE_URL="sqlite://$folder/agent-config.db" CONFIG_HTTP_ADDR=127.0.0.1:0 \
    CONFIG_LAST_KNOWN_GOOD_PATH="$folder/known" BATCH_STORE_URL="sqlite://$folder/punctual.db" \
    BATCH_HTTP_ADDR=127.0.0.1:0 BATCH_API_KEY=openapi BATCH_LOG=info target/debug/punctual-agent run \
    --import data/preferences/sample.ndjson --ready-file "$folder/agent" >"$folder/agent.log" 2>&1 &
pids="$pids $!"
url=$(address api agent)
check "$url" agent_client
PYTHONPATH="$folder" "$venv/bin/python" tests/openapi/list_batches.py agent_client "$url"
