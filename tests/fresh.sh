#!/usr/bin/env bash
# Runs `make run` and `make test` on a machine that has nothing but Debian's minimum, `make` and the Rust toolchain, and
# shows what a user without root rights reads there. The machine is a folder, made by mmdebstrap and removed at the end. All
# mounts are in a mount namespace of its own: they end with the last process in it, however it ends.
#   tests/fresh.sh             needs root
#   tests/fresh.sh --possible  whether this machine allows it; prints the reason if not
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/debian.sh
repository=$PWD

# The build folder and the registry are this machine's own, so that nothing is built or fetched twice. The virtual
# environments of Python are not: they hold paths of the Python that made them.
sysroot=$(rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
kept=$repository/target/fresh

possible() {
    if [ "$(id -u)" != 0 ]; then
        echo "a fresh root needs root rights"
    elif ! command -v apt-get >/dev/null; then
        echo "a fresh root is made from Debian's packages, and apt-get is missing here"
    elif [ "$sysroot" = /usr ]; then
        echo "the Rust toolchain is part of this system, and a fresh root borrows one that stands alone, as rustup installs it"
    elif ! unshare --mount --pid --fork --propagation private mount -t tmpfs fresh /mnt 2>/dev/null; then
        echo "this machine forbids mounts"
    else
        return 0
    fi
    return 1
}

install_mmdebstrap() {
    apt-get update -qq # Also for make_debian().
    if command -v mmdebstrap >/dev/null; then return; fi
    echo "Installing from Debian's packages: mmdebstrap"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
}

make_root() {
    local root=$1
    make_debian "$root" --variant=minbase --include=make
    mkdir -p "$root$repository" "$root$sysroot" "$root$cargo_home"
    chmod a+x "$root/root" # The toolchain may be there, and is for every user.
    cp /etc/hosts "$root/etc/hosts"
    cp /etc/pip.conf "$root/etc/pip.conf" 2>/dev/null || true
}

mount_all() {
    local root=$1
    mount --bind "$root" "$root" # As everywhere, the root is a mount: buildah asks for it.
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mkdir -p target var "$cargo_home" "$kept"/{archives/partial,clients,model,schemathesis,recurrence,kubernetes} \
        target/{clients,model,schemathesis,recurrence,kubernetes}
    mount --bind "$repository" "$root$repository"
    mount -o remount,bind,ro "$root$repository"
    mount --bind target "$root$repository/target"
    mount -t tmpfs var "$root$repository/var"
    mount --bind "$kept/clients" "$root$repository/target/clients"
    mount --bind "$kept/model" "$root$repository/target/model"
    mount --bind "$kept/schemathesis" "$root$repository/target/schemathesis"
    mount --bind "$kept/recurrence" "$root$repository/target/recurrence"
    mount --bind "$kept/kubernetes" "$root$repository/target/kubernetes"
    mount --bind "$kept/archives" "$root/var/cache/apt/archives"
    mount --bind "$sysroot" "$root$sysroot"
    mount -o remount,bind,ro "$root$sysroot"
    mount --bind "$cargo_home" "$root$cargo_home"
    # tests/upgrades.sh builds the last release from the history, which is elsewhere when this is a worktree.
    local history
    history=$(git rev-parse --path-format=absolute --git-common-dir 2>/dev/null || true)
    case $history in
    "" | "$repository"/*) ;;
    *)
        mkdir -p "$root$history"
        mount --bind "$history" "$root$history"
        mount -o remount,bind,ro "$root$history"
        ;;
    esac
}

# A command in the root, in the repository: `in_root root COMMAND...` or `in_root user COMMAND...`.
in_root() {
    local user=$1
    shift
    local home=/root as=()
    if [ "$user" != root ]; then
        home=/home/$user
        as=(setpriv --reuid "$user" --regid "$user" --init-groups)
    fi
    # shellcheck disable=SC2016
    chroot "$root" env HOME="$home" CARGO_HOME="$cargo_home" PATH="$sysroot/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        "${as[@]}" sh -c 'cd "$0" && exec "$@"' "$repository" "$@"
}

step() { printf '\n== %s\n' "$*"; }

# A user without sudo reads what is missing and how to install it; nothing is installed.
check_user_without_sudo() {
    local target=$1 said
    shift
    step "make $target, as a user without sudo"
    if said=$(in_root newcomer make "$target" 2>&1); then
        echo "make $target has ended well where its packages are missing" >&2
        return 1
    fi
    echo "$said"
    for word in "apt-get install" "$@"; do
        if ! grep -qF -- "$word" <<<"$said"; then
            echo "make $target does not name \`$word\`" >&2
            return 1
        fi
    done
}

# `make run` works until it is stopped: it is over when it has said what to do next. It runs at a terminal, as a newcomer
# runs it, and Ctrl-C stops it.
check_run() {
    step "make run, as root"
    local log=$root/tmp/run.log deadline=$((SECONDS + 2400)) keys=$root/tmp/keys
    mkfifo "$keys"
    exec 3<>"$keys"
    # Any port: those of the demo may be taken on this machine. Only the shop and its mailbox stay at theirs, which the sample
    # jobs name.
    BATCH_HTTP_ADDR=127.0.0.1:0 CONFIG_HTTP_ADDR=127.0.0.1:0 in_root root \
        script --quiet --return --flush --command "make run" /tmp/run.log <&3 >/dev/null &
    local running=$!
    until grep -qsF 'Ctrl-C stops' "$log"; do
        if ! kill -0 "$running" 2>/dev/null || [ "$SECONDS" -gt "$deadline" ]; then
            cat "$log"
            echo "make run has not come to its end" >&2
            return 1
        fi
        sleep 1
    done
    printf '\003' >&3
    wait "$running" || true
    exec 3>&-
    cat "$log"
    for word in "Imported 3000 tenants" " succeeded in " " nothing to do" "Result of user" "http://127.0.0.1:8090/mails/" \
        "Nothing is lost"; do
        grep -qF -- "$word" "$log" || { echo "make run does not say \`$word\`" >&2; return 1; }
    done
    step "make run again: nothing is left to install"
    local began=$SECONDS
    in_root root tests/setup.sh build
    echo "nothing installed, in $((SECONDS - began)) s"
}

check_user_with_sudo() {
    step "tests/setup.sh test, as a user with sudo"
    in_root root sh -c 'apt-get install -y -qq --no-install-recommends sudo >/dev/null &&
        echo "newcomer ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/newcomer'
    in_root newcomer tests/setup.sh test
}

inside() {
    root=$1
    step "A fresh root"
    make_root "$root"
    mount_all "$root"
    in_root root useradd --create-home newcomer
    check_user_without_sudo run gcc libc6-dev
    check_user_without_sudo test gcc libc6-dev postgresql chromium python3-venv faketime git prometheus buildah
    check_run
    check_user_with_sudo
    step "make test, as root"
    in_root root make test
}

case ${1:-} in
--possible) possible ;;
--inside) inside "$2" ;;
*)
    if ! reason=$(possible); then
        echo "make fresh cannot run: $reason" >&2
        exit 1
    fi
    install_mmdebstrap
    folder=$(mktemp -d /var/tmp/punctual-fresh.XXXXXX)
    # The mounts are seen inside alone: out here, the folder holds only what mmdebstrap put into it.
    trap 'rm -rf --one-file-system "$folder"' EXIT
    unshare --mount --pid --fork --kill-child --mount-proc --propagation private "$0" --inside "$folder/root" &
    machine=$!
    trap 'kill -KILL "$machine" 2>/dev/null; wait "$machine" 2>/dev/null || true; exit 130' INT TERM HUP
    wait "$machine"
    ;;
esac
