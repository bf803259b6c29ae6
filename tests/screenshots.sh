#!/bin/sh
# Takes the pictures of the README anew, in docs/pictures, from an agent with the sample preferences that has caught up with the
# last day, beside the shop and the mailbox of the demo. Where pngquant is installed, the files are smaller.
set -eu
cd "$(dirname "$0")/.."
cargo build --locked --quiet -p punctual-agent -p punctual-demo
folder=$(mktemp -d)
CONFIG_STORE_URL="sqlite://$folder/config.db" CONFIG_HTTP_ADDR=127.0.0.1:0 CONFIG_LAST_KNOWN_GOOD_PATH="$folder/known" \
    BATCH_STORE_URL="sqlite://$folder/punctual.db" BATCH_HTTP_ADDR=127.0.0.1:0 \
    target/debug/punctual-demo target/debug/punctual-agent run --import data/preferences/sample.ndjson --look-back 24h \
    --ready-file "$folder/ready" >"$folder/log" 2>&1 &
agent_pid=$!
trap 'kill "$agent_pid" 2>/dev/null || true; wait "$agent_pid" 2>/dev/null || true; rm -rf "$folder"' EXIT

# The value of a field of the JSON at standard input.
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
for _ in $(seq 600); do
    if [ -e "$folder/ready" ]; then break; fi
    sleep 0.1
done
agent=$(field api <"$folder/ready")
config_database=$(field config_database <"$folder/ready")
# Until everything that was missed has run.
for _ in $(seq 120); do
    sleep 1
    if ! BATCH_HTTP_ADDR=${agent#http://} target/debug/punctual-agent batches --json | grep -q '"finished_at":null'; then break; fi
done

take() { # take NAME HEIGHT URL
    timeout 180 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$folder/profile" \
        --window-size="1100,$2" --screenshot="$PWD/docs/pictures/$1.png" "$3" >/dev/null 2>&1
    if command -v pngquant >/dev/null; then pngquant --force --ext .png 64 "docs/pictures/$1.png"; fi
}

take preference 1180 "$config_database/tenants/user10/features/instagram_posts"
take preferences 560 "$config_database/operators"
take overview 940 "$agent/"
take job 940 "$agent/jobs/instagram_post_preference_based"
take tenant 720 "$agent/tenants/user10"
take batches 560 "$agent/batches"
