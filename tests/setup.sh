#!/bin/sh
# Installs from Debian's packages what is missing here for one of two tasks, and says what it installs:
#   tests/setup.sh build   what `make run` needs: a linker, the headers of the C library, certificates for the registry
#   tests/setup.sh test    that, and what the tests run: PostgreSQL, Chromium, Prometheus, Python, faketime, git, buildah
#                          and lintian
# Installs nothing, and asks nothing of the network, where nothing is missing.
set -eu

need() { # need COMMAND PACKAGE...
    command=$1
    shift
    command -v "$command" >/dev/null 2>&1 || missing="$missing $*"
}

# A compiler without the C library's headers and start files is not enough.
compiles() {
    echo '#include <stdlib.h>
int main(void) { return EXIT_SUCCESS; }' | cc -x c - -o /dev/null 2>/dev/null
}

has_certificates() {
    for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
        if [ -s "$file" ]; then return 0; fi
    done
    return 1
}

has_postgresql() {
    for folder in /usr/lib/postgresql/*/bin; do
        if [ -x "$folder/initdb" ]; then return 0; fi
    done
    return 1
}

find_missing() {
    missing=""
    compiles || missing="$missing gcc libc6-dev"
    has_certificates || missing="$missing ca-certificates"
    if [ "$task" = build ]; then return; fi
    need faketime faketime
    need git git
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    need chromium chromium
    need chromedriver chromium-driver
    need promtool prometheus
    need buildah buildah
    need mmdebstrap mmdebstrap
    need ip iproute2
    need lintian lintian
    need dpkg-shlibdeps dpkg-dev
    /usr/bin/python3 -c 'import yaml' 2>/dev/null || missing="$missing python3-yaml"
    has_postgresql || missing="$missing postgresql"
}

# The list, and how to install it, for someone who must do it or have it done.
give_up() {
    {
        echo "$1"
        echo "Missing packages (Debian's names):$missing"
        echo "Install them as root, then run \`make $2\` again:"
        echo "    apt-get update && apt-get install --no-install-recommends$missing"
    } >&2
    exit 1
}

task=${1:-test}
case $task in
build) target=run ;;
test) target=test ;;
*)
    echo "usage: tests/setup.sh build|test" >&2
    exit 2
    ;;
esac
if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is not installed; install a Rust toolchain, 1.95 or later" >&2
    exit 1
fi
find_missing
if [ -z "$missing" ]; then exit 0; fi

command -v apt-get >/dev/null 2>&1 || give_up "This system has no apt-get, so \`make $target\` cannot install what it needs." "$target"
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif command -v sudo >/dev/null 2>&1; then
    as_root="sudo env"
else
    give_up "\`make $target\` needs packages that are not installed, and this user is not root and has no sudo." "$target"
fi
echo "Installing from Debian's packages:$missing"
# shellcheck disable=SC2086  # one word per package
if ! { $as_root apt-get update -qq &&
    $as_root DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -y -qq --no-install-recommends $missing >/dev/null; }; then
    give_up "The installation failed; the reason is above." "$target"
fi
find_missing
if [ -n "$missing" ]; then give_up "The installation has ended, but something is still missing." "$target"; fi
