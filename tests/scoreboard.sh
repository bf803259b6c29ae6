#!/bin/bash
# Measures reliability and performance, and writes docs/SCOREBOARD.md: each figure with the command that gives it. Run it
# on a machine that does nothing else; an hour and a half on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
# Durable, as in production.
export TEST_POSTGRES_OPTIONS=
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cargo build --locked --release --workspace --quiet

cat >"$out" <<INTRO
# Scoreboard

Written by \`make scoreboard\`: each block is a command and what it printed. Absolute figures shift between machines and hours;
where a peer stands beside ours, both ran in the same run.

- commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ', with changes'), $(date -u +%F)
- $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo), $(uname -sm), PostgreSQL $(psql --version | awk '{print $3}')
- seeds: the simulation runs seeds 0 to SEEDS - 1; kills and the rest fall where the clock has them
INTRO
title() {
    printf '\n## %s\n\n%s\n' "$1" "$2" >>"$out"
}
# What matters of what a command prints is what the pattern before it finds.
run() {
    local pattern=$1
    shift
    echo "$*" >&2
    # A new database for each.
    local found
    found=$(tests/with-postgres.sh bash -c "$*" 2>&1 | tee -a /dev/stderr | grep -E "$pattern")
    printf '\n```console\n$ %s\n%s\n```\n' "$*" "$found" >>"$out"
}

title "Nothing lost, nothing twice" "Days of virtual time with crashes, failing stores, clocks that step and two schedulers, judged by an oracle; \
then real agents killed with kill -9 in mid-batch and while items wait, a server that goes down, and a death at each named place between two writes."
run 'test result' 'SEEDS=5000 cargo test --locked -q -p punctual-tests --test it simulation::many'
run 'occurrences|restarts' 'KILLS=200 OCCURRENCES=100000 cargo test --locked --release -q -p punctual-agent --test it soak -- --nocapture --test-threads=1'
run 'kills over' 'KILLS=200 OCCURRENCES=50000 cargo test --locked --release -q -p punctual-agent --test it kill_waiting -- --nocapture --test-threads=1'
run 'test result' 'cargo test --locked -q -p punctual-agent --all-features --test it crash_points'

title "Everything at once, for half an hour" "Edits, imports, erasures, manual runs, kills and restarts of agents, restarts of the Config Database \
and, on PostgreSQL, ended connections, beside a job of each minute. In the second half all processes live on."
run 'steps, ' 'SOAK_MINUTES=30 cargo test --locked --release -q -p punctual-agent --all-features --test it everything_at_once -- --nocapture'

title "All users fall due in one minute" "The real scheduler, queue, processor and store, with a handler that does nothing; each result is \
a row that survives a power cut. graphile-worker does empty jobs on the same server, huey in a SQLite file of its own."
run 'users|huey' 'cargo run --locked --release -q -p punctual-benchmarks --bin processing -- --users 1000000 --peer 10000'
run 'users|graphile' 'cargo run --locked --release -q -p punctual-benchmarks --bin processing -- --postgres --users 200000 --peer 200000'
run 'users' 'cargo run --locked --release -q -p punctual-benchmarks --bin processing -- --postgres --users 1000000'

title "A second process, a handler that waits 20 ms" "As with a language model."
run 'users' 'cargo run --locked --release -q -p punctual-benchmarks --bin processing -- --postgres --users 20000 --handler-ms 20'
run 'users' 'cargo run --locked --release -q -p punctual-benchmarks --bin processing -- --postgres --users 20000 --handler-ms 20 --processes 2'

title "Four agents divide the users" "A shard and a SQLite file each, on one machine."
run 'users' 'cargo run --locked --release -q -p punctual-benchmarks --bin processing -- --shards 4 --users 10000000'

title "Digests: each user's own data, since the last time" "All users run at once, with a handler that does nothing. The data is fetched \
for 500 users in a call, from a server in the same process, whose memory and CPU time are counted too. The look-up finds each \
user's last run."
run 'users' 'cargo run --locked --release -q -p punctual-benchmarks --bin digests -- --users 1000000'
run 'users' 'cargo run --locked --release -q -p punctual-benchmarks --bin digests -- --users 1000000 --postgres'

title "Items that wait" "All items of a job begin to wait, wait for a minute, and are completed: a million by the process itself, 50,000 over \
HTTP. While they wait they are rows of a table."
run 'items, ' 'cargo run --locked --release -q -p punctual-benchmarks --bin waiting'
run 'items, ' 'cargo run --locked --release -q -p punctual-benchmarks --bin waiting -- --postgres'

title "Minute after minute" "From the due instant to the first line of each item, with many jobs and many slots, and what the process costs \
between the minutes, with nothing to do."
for database in '' ' --postgres'; do
    run 'min, ' "cargo run --locked --release -q -p punctual-benchmarks --bin minutes -- --plain 60 --minutes 5$database"
    run 'min, ' "cargo run --locked --release -q -p punctual-benchmarks --bin minutes -- --preferences 1000 --users 10$database"
    run 'min, ' "cargo run --locked --release -q -p punctual-benchmarks --bin minutes -- --slots 1024$database"
done

title "What operators read" "Pages and calls with 5 million results over 400 days in the store, at rest and while a minute of 100,000 users runs."
run '.' 'cargo run --locked --release -q -p punctual-benchmarks --bin reads'

title "Removing old results" "Minutes of 100,000 users on an empty store, beside five million old results, and while these are removed, in one process."
run 'users, |old results, ' 'cargo run --locked --release -q -p punctual-benchmarks --bin retention'
run 'users, |old results, ' 'cargo run --locked --release -q -p punctual-benchmarks --bin retention -- --postgres'

title "One schedule per user" "Loading, changing and ticking the mirror; APScheduler beside it."
run '.' 'cargo run --locked --release -q -p punctual-benchmarks --bin schedule'

title "From a change to its slot" "PUT to the Config Database until the agent says that the tenant stands in the new slot, with a million tenants."
run 'import|snapshot|PUT|memory' 'cargo run --locked --release -q -p punctual-benchmarks --bin propagation -- --tenants 1000000'

mv "$out" docs/SCOREBOARD.md
chmod 644 docs/SCOREBOARD.md
