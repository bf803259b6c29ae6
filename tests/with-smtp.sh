#!/bin/sh
# Runs a command with a Python, in TEST_SMTP_PYTHON, that can run tests/smtp/server.py: tests start SMTP servers on loopback with it.
#   tests/with-smtp.sh cargo test -p punctual-infrastructure --features servers email
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../target/smtp"
if ! "$venv/bin/python" -c 'import aiosmtpd, dkim' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/smtp/requirements.txt"
fi
export TEST_SMTP_PYTHON="$venv/bin/python"
# What the tests sign in with, and sign links with: a test cannot set a variable of its own process.
export TEST_SMTP_USER=shop TEST_SMTP_PASSWORD="a password with spaces"
export TEST_LINK_KEYS=test:0123456789-0123456789-0123456789
exec "$@"
