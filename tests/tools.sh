#!/bin/sh
# Installs tools of Cargo into target/tools, where they are missing.
#   tests/tools.sh cargo-deny cargo-machete
set -eu
cd "$(dirname "$0")/.."
# What checks dependencies and coverage, what makes a site of the documents, and what packs a release.
versions="cargo-deny@0.20.2 cargo-machete@0.9.2 cargo-tarpaulin@0.37.5 mdbook@0.5.4
    cargo-deb@3.8.0 cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9"
for name in "$@"; do
    for tool in $versions; do
        if [ "${tool%@*}" = "$name" ]; then break; fi
    done
    program="target/tools/bin/$name"
    if [ -x "$program" ] && [ "$(cat "$program.version" 2>/dev/null)" = "$tool" ]; then continue; fi
    echo "installing $tool"
    # In a folder of its own: built once, whatever happens to the rest. Not optimised: that takes longer than they run.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=target/tools/build cargo install --debug --quiet --locked --root target/tools "$tool"
    rm -rf target/tools/build
    echo "$tool" >"$program.version"
done
