#!/usr/bin/env bash
# Builds the image of docs/operations/deployment/Dockerfile with the programs that `cargo test` has left in target/debug, and
# runs its containers as compose.yaml and deployment.md say (tests/container.py). Works in memory (1.5 GB) and in namespaces
# of its own, so nothing is left behind. Users other than root need subordinate ids (/etc/subuid), which Debian gives them.
#
# Not covered: the image that the Dockerfile builds in, and compiling there. It is replaced by a Debian of this machine's
# release, on which the programs were linked, and `cargo` by a stand-in that hands the programs over: compiling would take as
# long again as all other tests. The stand-in checks that the context has every file the compiler has read.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/debian.sh

if [ "${1:-}" != --inside ]; then
    as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(buildah unshare); fi
    alone=("${as_root[@]}" unshare --mount --pid --fork --kill-child --mount-proc)
    "${alone[@]}" true || { echo "Images are built in namespaces of their own, and this machine does not allow them" >&2; exit 1; }
    exec "${alone[@]}" tests/container.sh --inside
fi
folder=/var/tmp # Buildah puts temporary files there, too.
mount -t tmpfs container "$folder"
export BUILDAH_ISOLATION=chroot CONTAINERS_STORAGE_CONF=$folder/storage.conf
cat >"$CONTAINERS_STORAGE_CONF" <<EOF
[storage]
driver = "vfs"
graphroot = "$folder/storage"
runroot = "$folder/run"
EOF

step() { # `step WHAT COMMAND...`: says how long it took; shows what the command says only if it fails.
    local what=$1 began=$SECONDS
    shift
    "$@" >"$folder/said" 2>&1 || { cat "$folder/said" >&2; return 1; }
    echo "    $what: $((SECONDS - began)) s"
}

# The release of Rust that compiles the image is the oldest that the workspace allows.
dockerfile=docs/operations/deployment/Dockerfile
version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
grep -q "^FROM rust:$version-" "$dockerfile" || { echo "$dockerfile does not build with Rust $version" >&2; exit 1; }

echo "The image of $dockerfile:"
base=$(buildah from scratch)
without=(--dpkgopt='path-exclude=/usr/share/'{doc,locale,man}'/*')
step "Debian for it" make_debian "$(buildah mount "$base")" --variant=apt "${without[@]}" --aptopt='Acquire::Languages "none"' \
    --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr
step "its base" buildah commit --rm "$base" base
buildah tag base "docker.io/library/$(sed -n 's/^FROM \([^ ]*\) AS build$/\1/p' "$dockerfile")"

# The stand-in for cargo, what it hands over, and the files that it asks for.
mkdir "$folder/sbin"
cat >"$folder/sbin/cargo" <<'EOF'
#!/bin/sh
set -eu
here=${0%/*}
[ "$*" = "build --locked --release --bins" ] || { echo "cargo $*: tests/container.sh has no stand-in for it" >&2; exit 1; }
while read -r file; do
    [ -f "$file" ] || { echo ".dockerignore leaves out $file" >&2; exit 1; }
done <"$here/sources"
mkdir -p target/release
cp "$here"/punctual-* target/release
EOF
chmod +x "$folder/sbin/cargo"
for program in punctual-agent punctual-config-service; do
    strip -o "$folder/sbin/$program" "target/debug/$program"
done
{
    find Cargo.* bins crates tests -name 'Cargo.*'
    # What the compiler has read, now or for earlier sources: `result: file file…`
    sed 's/^[^ ]*: //' target/debug/deps/punctual*.d | tr ' ' '\n' | sed "s|^$PWD/||" | grep '^[^/][^/]*/' | sort -u
} | while read -r file; do
    if [ -f "$file" ]; then echo "$file"; fi
done >"$folder/sbin/sources"
step "the image" buildah build --pull-never --volume "$folder/sbin:/usr/local/sbin:ro" --file "$dockerfile" --tag punctual .
buildah push --quiet --format oci punctual "oci-archive:$folder/image.tar"
size=$(($(stat --format %s "$folder/image.tar") / 1000000))
rm "$folder/image.tar"
echo "    to pull, with programs that are not optimised: $size MB"
[ "$size" -lt 80 ] || { echo "The image is larger than 80 MB" >&2; exit 1; }

# In a network of their own the containers listen on the very ports that the files name.
step "its containers" unshare --net sh -c \
    'ip link set lo up && TEST_POSTGRES_PORT=5432 tests/with-postgres.sh /usr/bin/python3 tests/container.py'
