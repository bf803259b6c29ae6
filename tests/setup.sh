#!/bin/sh
# Installs what the tests need and this machine lacks. Fails when something cannot be had.
set -eu

need() { # need COMMAND-OR-FILE PACKAGE
    if command -v "$1" >/dev/null 2>&1 || [ -e "$1" ]; then return; fi
    missing="$missing $2"
}

need_postgresql() {
    for folder in /usr/lib/postgresql/*/bin; do
        if [ -x "$folder/initdb" ]; then return; fi
    done
    missing="$missing postgresql"
}

missing=""
need gcc gcc
need faketime faketime
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
need chromium chromium
need chromedriver chromium-driver
need promtool prometheus
need_postgresql
if [ -z "$missing" ]; then exit 0; fi

echo "installing$missing"
if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi
$as_root apt-get update -qq
# shellcheck disable=SC2086  # one word a package
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
