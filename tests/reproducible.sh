#!/usr/bin/env bash
# Makes the files of the release twice, in folders of different names and with nothing built before, and compares them. It
# compiles everything twice.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d target/reproducible.XXXXXX)
trap 'rm -rf "$folder"' EXIT
tests/release.sh "$folder/first" "$folder/build"
rm -rf "$folder/build"
tests/release.sh "$folder/second" "$folder/other/build"
diff "$folder/first/SHA256SUMS" "$folder/second/SHA256SUMS" || { echo "The same sources have given other files" >&2; exit 1; }
echo "Two builds have given the same files, in $SECONDS s"
