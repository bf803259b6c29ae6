#!/usr/bin/env bash
# Makes the files of a release from what is committed: a Debian package, an archive, a list of components (SBOM) for each program,
# what they were made with, and their checksums. Compiles in a copy of the sources; the same commit, compiler and Debian give the
# same files, wherever it is.
#   tests/release.sh [FILES [BUILD]]   the folder of the files, target/release-files, and that of the build, target/release-build
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/packing.sh
files=$(realpath -m "${1:-target/release-files}")
target=$(realpath -m "${2:-target/release-build}")
# target/release-files is emptied; another folder may have files of others.
if [ $# -gt 0 ] && [ -n "$(ls -A "$files" 2>/dev/null)" ]; then
    echo "$files is not empty; name a new folder for the files of the release" >&2
    exit 1
fi
git diff --quiet HEAD || { echo "A release is made from what is committed; commit your changes first" >&2; exit 1; }
tests/tools.sh cargo-deb cargo-auditable cargo-cyclonedx

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
host=$(rustc -vV | sed -n 's/^host: //p')
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
# What it takes to make the same files again.
made_with=$(echo "commit $(git rev-parse HEAD)" && rustc -V && cc --version | sed -n 1p &&
    echo "Debian $(cat /etc/debian_version)")
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
git archive HEAD | tar -x -C "$source"
cd "$source"
umask 022

# Paths of this machine are not in the programs: neither from Rust nor from C.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS= CFLAGS=
for folder in "$source=/punctual" "$target=/build" "$cargo_home=/cargo"; do
    RUSTFLAGS+="--remap-path-prefix=$folder "
    CFLAGS+="-ffile-prefix-map=$folder "
done
export SOURCE_DATE_EPOCH RUSTFLAGS CFLAGS CXXFLAGS=$CFLAGS CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0 LC_ALL=C TZ=UTC
cargo auditable build --release --locked
for program in punctual-agent punctual-config-service; do
    # What is linked can be read from the program (cargo-audit, trivy, grype).
    readelf --section-headers --wide "$target/release/$program" | grep -q ' \.dep-v0 ' ||
        { echo "$program does not name its dependencies" >&2; exit 1; }
    for folder in "$source" "$target" "$cargo_home"; do
        if grep -qaF "$folder/" "$target/release/$program"; then
            echo "$program has the path $folder of this machine" >&2
            exit 1
        fi
    done
done

rm -rf "$files"
mkdir -p "$files"
pack_texts "$target/release"
make_deb "$target" "$version-1" "$files/punctual_$version-1_$(dpkg --print-architecture).deb"

name=punctual-$version-$host
packed=$target/release/package/$name
install -D -t "$packed/bin" "$target/release/punctual-agent" "$target/release/punctual-config-service"
install -D -m 644 -t "$packed/share/man/man1" "$target"/release/package/man/*
install -D -m 644 -t "$packed/share/bash-completion/completions" "$target"/release/package/punctual-{agent,config-service}
install -D -m 644 -t "$packed/share/zsh/site-functions" "$target"/release/package/_punctual-{agent,config-service}
install -D -m 644 -t "$packed/share/fish/vendor_completions.d" "$target"/release/package/punctual-{agent,config-service}.fish
install -D -m 644 -t "$packed/lib/systemd/system" docs/operations/deployment/*.service
install -m 644 -t "$packed" LICENSE-* README.md CHANGELOG.md "$target/release/package/third-party-licences.txt.gz"
tar -C "$target/release/package" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -c "$name" |
    gzip -9n >"$files/$name.tar.gz"

cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --target "$host"
for program in punctual-agent punctual-config-service; do
    /usr/bin/python3 tests/components.py list "$program" "$source" "$files/$program.cdx.json"
done
cd "$files"
echo "$made_with" >"$name.buildinfo"
sha256sum -- * >SHA256SUMS
ls -l
