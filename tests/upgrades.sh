#!/usr/bin/env bash
# Runs agents and a Config Database of the last release beside those of this version, under load: on one PostgreSQL, and one after
# the other on one SQLite file. tests/upgrades/released names the release, a tag or a commit. Its programs are built from the
# history of this repository, once: they stay in target/upgrades.
#   tests/upgrades.sh
set -euo pipefail
cd "$(dirname "$0")/.."
# Git reads no repository of another user, unless it is named.
git() { command git -c safe.directory='*' "$@"; }

release=$(cat tests/upgrades/released)
# A release is built from the history. Who tests a copy of the source alone is not kept from all other tests.
skip() {
    echo "NOT CHECKED: this version beside the release $release (tests/upgrades/released), because $1"
    exit
}
if ! git rev-parse --git-dir >/dev/null 2>&1; then
    skip "this folder has no history; clone the repository instead of unpacking it"
elif ! commit=$(git rev-parse --quiet --verify "$release^{commit}" 2>/dev/null); then
    if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
        skip "this clone is shallow; get the history with: git fetch --unshallow --tags"
    fi
    echo "tests/upgrades.sh: this clone does not have the release $release; get it with: git fetch --tags origin $release" >&2
    exit 1
fi

# Where no agent of the release may work beside this version, all of them stop first, as CHANGELOG says.
for migrations in crates/{store,config-database}/migrations/sqlite; do
    last=$(git ls-tree --name-only "$commit" "$migrations/" | tail -n 1)
    last=$(basename "$last" | cut -d_ -f1)
    oldest=$(sed -n 's/^-- oldest program beside: //p' "$migrations"/*.sql | sort -n | tail -n 1)
    if [ "${oldest:-0}" -gt "$((10#$last))" ]; then
        echo "NOT CHECKED: this version beside $release, because a migration in $migrations says that the oldest program beside it" \
            "knows migration $oldest, and $release knows $last."
        exit
    fi
done

folder=$PWD/target/upgrades/$commit
programs=(punctual-agent punctual-config-service)
if [ ! -e "$folder/built" ]; then
    echo "Building the programs of the release $release"
    rm -rf "$folder"
    mkdir -p "$folder/source" "$folder/bin"
    git archive "$commit" | tar -x -C "$folder/source"
    (
        cd "$folder/source"
        export CARGO_TARGET_DIR=$folder/target CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
        cargo build --locked --quiet "${programs[@]/#/--package=}"
    )
    cp "${programs[@]/#/$folder/target/debug/}" "$folder/bin"
    rm -rf "$folder/target" "$folder/source"
    touch "$folder/built"
fi

# Since it has the table of compatibility, a release opens a store that the version after it has upgraded.
if git cat-file -e "$commit:crates/store/src/compatibility.rs" 2>/dev/null; then
    returns=yes
else
    returns=no
    echo "NOT CHECKED: whether an agent of $release restarts on tables that this version has upgraded. It is from before the" \
        "table of compatibility and refuses them, which is checked; this direction begins with the first release that has it."
fi
PUNCTUAL_RELEASED=$folder/bin PUNCTUAL_RELEASED_RETURNS=$returns tests/with-postgres.sh \
    cargo test --locked --workspace --all-features --test it -- --ignored --test-threads=2 upgrades::
