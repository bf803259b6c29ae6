#!/bin/sh
# Takes the pictures of the README anew, in docs/pictures, from an agent that `make run` has started. It needs Chromium and
# pngquant from Debian's packages.
#   [AGENT=http://127.0.0.1:8080] [CONFIG_DATABASE=http://127.0.0.1:8000] tests/pictures.sh
set -eu
cd "$(dirname "$0")/../docs/pictures"
agent=${AGENT:-http://127.0.0.1:8080}
config_database=${CONFIG_DATABASE:-http://127.0.0.1:8000}
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

take() { # take NAME HEIGHT URL
    timeout 180 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
        --window-size="1100,$2" --screenshot="$PWD/$1.png" "$3" >/dev/null 2>&1
    pngquant --force --ext .png 64 "$1.png"
}

take preference 920 "$config_database/tenants/user10/features/instagram_posts"
take preferences 560 "$config_database/operators"
take overview 940 "$agent/"
take job 940 "$agent/jobs/instagram_post_preference_based"
take tenant 720 "$agent/tenants/user10"
take batches 560 "$agent/batches"
