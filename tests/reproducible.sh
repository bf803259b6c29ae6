#!/usr/bin/env bash
# Makes the files of a release, and once more in folders of other names with nothing built before, and compares them. It compiles
# everything up to twice.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse HEAD)
tests/release.sh
mkdir -p target
folder=$(mktemp -d target/reproducible.XXXXXX)
trap 'rm -rf "$folder"' EXIT
tests/release.sh "$folder/files" "$folder/build"
[ "$(git rev-parse HEAD)" = "$commit" ] || { echo "There is a new commit since this began; run it again" >&2; exit 1; }
diff target/release-files/SHA256SUMS "$folder/files/SHA256SUMS" || { echo "The same sources have given other files" >&2; exit 1; }
echo "Two builds have given the same files, in $SECONDS s"
