#!/bin/sh
# Installs what checks dependencies and coverage, and what makes a site of the documents, into target/tools, where it is missing.
set -eu
cd "$(dirname "$0")/.."
for tool in cargo-deny@0.20.2 cargo-machete@0.9.2 cargo-tarpaulin@0.37.5 mdbook@0.5.4; do
    program="target/tools/bin/${tool%@*}"
    if [ -x "$program" ] && [ "$(cat "$program.version" 2>/dev/null)" = "$tool" ]; then continue; fi
    echo "installing $tool"
    # In a folder of its own: built once, whatever happens to the rest. Not optimised: that takes longer than they run.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=target/tools/build cargo install --debug --quiet --locked --root target/tools "$tool"
    rm -rf target/tools/build
    echo "$tool" >"$program.version"
done
