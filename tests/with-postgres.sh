#!/bin/sh
# Runs a command beside a throwaway PostgreSQL server, whose URL it finds in TEST_POSTGRES_URL. The server listens on
# TEST_POSTGRES_PORT or a free port of loopback, keeps its data in a temporary folder and ends with the command.
# `sh -c "$TEST_POSTGRES_RESTART"` restarts it as if the power had gone.
#   tests/with-postgres.sh cargo test -p punctual-config-database
set -eu

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
if [ -z "$bin" ]; then
    echo "PostgreSQL is not installed; run \`make setup\`" >&2
    exit 1
fi
folder=$(mktemp -d)
# PostgreSQL refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    chown postgres "$folder"
    as_owner() { runuser -u postgres -- "$@"; }
else
    as_owner() { "$@"; }
fi
stop() {
    as_owner "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM

as_owner "$bin/initdb" -D "$folder/data" -U punctual --auth=trust --encoding=UTF8 --locale=C.UTF-8 >"$folder/initdb.log" || {
    cat "$folder/initdb.log" >&2
    exit 1
}
port=${TEST_POSTGRES_PORT:-$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
# What a crash would lose is of no interest here: TEST_POSTGRES_OPTIONS="" keeps it safe, for measuring.
options=${TEST_POSTGRES_OPTIONS--c fsync=off -c full_page_writes=off}
as_owner "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -t 30 \
    -o "-h 127.0.0.1 -p $port -k $folder -c max_connections=400 $options" start >/dev/null || {
    cat "$folder/server.log" >&2
    exit 1
}
restart="'$bin/pg_ctl' -D '$folder/data' -m immediate -w -t 30 -l '$folder/server.log' restart"
if [ "$(id -u)" = 0 ]; then restart="runuser -u postgres -- $restart"; fi
TEST_POSTGRES_URL="postgres://punctual@127.0.0.1:$port/postgres" TEST_POSTGRES_RESTART="$restart >/dev/null" "$@"
