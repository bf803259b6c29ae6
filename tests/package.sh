#!/usr/bin/env bash
# Makes the Debian package from the programs in a folder, installs it on a clean Debian in another, runs both programs there as
# their units say, upgrades, removes and purges it, and installs it again. Works in memory (1.5 GB) and in namespaces of its own;
# what it makes, and the clean Debian, is in target/package. Users other than root need subordinate ids (/etc/subuid).
#   tests/package.sh [PROGRAMS]   target/debug, where `cargo test` leaves them
#
# Not covered: systemd itself, which does not run in a folder. It checks the units, what they deny, and what the package asks of
# systemd.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/debian.sh
. tests/packing.sh
target=$PWD/target/package
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

fail() {
    echo "$1" >&2
    exit 1
}

make_clean_debian() {
    mount -t tmpfs debian /mnt
    make_debian /mnt/root --variant=minbase --include=adduser,ca-certificates,systemd
    tar -C /mnt/root --one-file-system --exclude './var/cache/apt/*' -cf "$target/debian.tar.new" .
    mv "$target/debian.tar.new" "$target/debian.tar"
}

# `make_new_deb OLD NEW`: the package of the next version. It is the same, but for its version, its settings and its jobs.
make_new_deb() {
    local files=$target/new
    rm -rf "$files"
    dpkg-deb --raw-extract "$1" "$files"
    sed -i "s/^Version: .*/Version: $version-2/" "$files/DEBIAN/control"
    echo '# Of the new version.' | tee -a "$files"/etc/punctual/*.env >/dev/null
    sed -i 's/Hello/Good day/' "$files/etc/punctual/batch/batch_config.json"
    (cd "$files" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$files" "$2" >/dev/null
    rm -r "$files"
}

in_root() { chroot "$root" "$@"; }

# `setting UNIT NAME`: what the unit says.
setting() { sed -n "s/^$2=//p" "$root/usr/lib/systemd/system/$1.service"; }

# Starts a unit's program, as its user, in its folder, with its environment file; the process is $running.
start() {
    local unit=$1 user
    user=$(setting "$unit" User)
    # shellcheck disable=SC2046  # a variable per word
    chroot "$root" env -i $(grep -v '^#' "$root$(setting "$unit" EnvironmentFile)") setpriv --reuid "$user" --regid "$user" --init-groups \
        --no-new-privs --bounding-set=-all sh -c 'umask "$1" && cd "$2" && exec "$3"' sh "$(setting "$unit" UMask)" \
        "$(setting "$unit" WorkingDirectory)" "$(setting "$unit" ExecStart)" 2>"$root/$unit.log" &
    running=$!
}

# `ready PORT UNIT`
ready() {
    local ask="import urllib.request; urllib.request.urlopen('http://127.0.0.1:$1/health/ready')"
    for _ in $(seq 100); do
        if /usr/bin/python3 -c "$ask" 2>/dev/null; then return; fi
        sleep 0.1
    done
    cat "$root/$2.log" >&2
    fail "$2 is not ready after 10 s"
}

# `has MODE OWNER FILE`
has() { [ "$(in_root stat --format '%a %U:%G' "$3")" = "$1 $2" ] || fail "$3 is not $1 $2: $(in_root ls -ld "$3")"; }

# As an unattended upgrade: what the administrator has changed stays, and nothing is asked.
install_deb() {
    in_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -y -qq \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "/$1" >/dev/null
}

# Writes down from now on what the package asks of systemd, which seems to run.
record_invocations() {
    mkdir -p "$root/run/systemd/system"
    # shellcheck disable=SC2016  # of the script that is written
    printf '#!/bin/sh\necho "$*" >>/invoked\n' >"$root/usr/bin/deb-systemd-invoke"
}

# `invoked WHEN CALL...`: these calls since the last look, in this order.
invoked() {
    local when=$1
    shift
    diff <(printf '%s.service\n' "$@") "$root/invoked" >&2 || fail "$when, the package asks something else of systemd"
    rm "$root/invoked"
}

# `check_result WHEN`: the agent still has its result, and ends well.
check_result() {
    start punctual-agent
    ready 8080 punctual-agent
    in_root punctual-agent results --tenant ann --json | grep -q 'Hello, ann!' || fail "the result is gone after $1"
    kill "$running"
    wait "$running" || fail "punctual-agent ends with $? on SIGTERM after $1"
}

check() {
    local result text unit file
    root=/mnt
    mount -t tmpfs debian "$root"
    tar -C "$root" -xf "$target/debian.tar"
    cp "$target"/*.deb "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    ip link set lo up

    install_deb old.deb
    has 640 root:punctual /etc/punctual/agent.env
    has 640 root:punctual /etc/punctual/config-service.env
    has 700 punctual:punctual /var/lib/punctual
    for unit in punctual-agent punctual-config-service; do
        for text in "man/man1/$unit.1.gz" "bash-completion/completions/$unit" "zsh/vendor-completions/_$unit" \
            "fish/vendor_completions.d/$unit.fish"; do
            has 644 root:root "/usr/share/$text"
        done
        [ "$(setting "$unit" Type) $(setting "$unit" WatchdogSec)" = "notify 30" ] || fail "systemd does not watch $unit.service"
        in_root systemd-analyze verify --man=no "$unit.service"
        in_root systemd-analyze security --offline=true --threshold=20 "$unit.service" >"$root/security" 2>&1 ||
            { cat "$root/security" >&2; fail "$unit.service denies too little"; }
        if in_root systemctl is-enabled --quiet "$unit.service"; then fail "$unit is enabled before the jobs were looked at"; fi
    done

    start punctual-agent
    ready 8080 punctual-agent
    in_root punctual-agent trigger greetings --tenant ann --allow-unknown --yes --wait >/dev/null
    result=$(in_root punctual-agent results --tenant ann --json)
    grep -q 'Hello, ann!' <<<"$result" || fail "the job of the package has another result: $result"
    kill "$running"
    wait "$running" || fail "punctual-agent ends with $? on SIGTERM"
    has 600 punctual:punctual /var/lib/punctual/punctual.db
    start punctual-config-service
    ready 8000 punctual-config-service
    kill "$running"
    wait "$running" || fail "punctual-config-service ends with $? on SIGTERM"

    echo "BATCH_LOG=debug" >>"$root/etc/punctual/agent.env"
    sed -i 's/09:00/10:30/' "$root/etc/punctual/batch/batch_config.json"
    record_invocations
    install_deb new.deb
    invoked "upgraded" "try-restart punctual-config-service" "try-restart punctual-agent"
    [ "$(in_root dpkg-query --show --showformat '${Version}' punctual)" = "$version-2" ] || fail "the upgrade has another version"
    # The new version has changed all three files.
    for file in agent.env batch/batch_config.json; do
        [ -e "$root/etc/punctual/$file.dpkg-dist" ] || fail "an upgrade does not put its $file beside the changed one"
    done
    grep -q BATCH_LOG=debug "$root/etc/punctual/agent.env" || fail "an upgrade has changed agent.env"
    grep -q 10:30 "$root/etc/punctual/batch/batch_config.json" || fail "an upgrade has changed batch_config.json"
    has 640 root:punctual /etc/punctual/agent.env
    grep -q 'Of the new version' "$root/etc/punctual/config-service.env" || fail "an upgrade leaves a file that was not changed"
    has 640 root:punctual /etc/punctual/config-service.env
    check_result "an upgrade"

    in_root apt-get remove -y -qq punctual >/dev/null
    invoked "removed" "stop punctual-agent" "stop punctual-config-service"
    if [ -e "$root/usr/bin/punctual-agent" ]; then fail "the program is there after it was removed"; fi
    grep -q 10:30 "$root/etc/punctual/batch/batch_config.json" || fail "the jobs are gone after the package was removed"
    has 600 punctual:punctual /var/lib/punctual/punctual.db

    # On a larger disk.
    in_root mv /var/lib/punctual /srv/data
    in_root ln -s /srv/data /var/lib/punctual
    result=$(in_root apt-get purge -y -qq punctual 2>&1)
    grep -q 'rm -r /var/lib/punctual' <<<"$result" || fail "purged, it does not say that the databases stay: $result"
    if [ -e "$root/etc/punctual" ]; then fail "purged, but the settings are still there"; fi
    has 600 punctual:punctual /var/lib/punctual/config.db
    in_root rm /var/lib/punctual
    in_root mv /srv/data /var/lib/punctual
    install_deb new.deb
    check_result "a purge"
    has 640 root:punctual /etc/punctual/agent.env
    # As on PostgreSQL, where only the last known preferences are in the folder.
    in_root find /var/lib/punctual -mindepth 1 -maxdepth 1 ! -name last-known-good -exec rm -r {} +
    [ -e "$root/var/lib/punctual/last-known-good" ] || fail "the agent keeps no last known preferences"
    in_root apt-get purge -y -qq punctual >/dev/null
    rm "$root"/punctual-*.log
    result=$(cd "$root" && find . -xdev -name '*punctual*')
    [ -z "$result" ] || fail "purged, but still there: $result"
}

case ${1:-} in
--debian) make_clean_debian ;;
--check) check ;;
*)
    as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(buildah unshare); fi
    alone=("${as_root[@]}" unshare --mount --pid --fork --kill-child --mount-proc)
    "${alone[@]}" true || fail "The package is tried in namespaces of its own, and this machine does not allow them"
    tests/tools.sh cargo-deb
    mkdir -p "$target/release"
    echo "The Debian package:"
    began=$SECONDS
    [ -s "$target/debian.tar" ] || "${alone[@]}" "$0" --debian
    echo "    Debian for it: $((SECONDS - began)) s"
    began=$SECONDS
    for program in punctual-agent punctual-config-service; do
        strip -o "$target/release/$program" "${1:-target/debug}/$program"
    done
    pack_texts "$target/release"
    make_deb "$target" "$version-1" "$target/old.deb" --fast
    make_new_deb "$target/old.deb" "$target/new.deb"
    echo "    made, and its next version: $((SECONDS - began)) s"
    began=$SECONDS
    lintian --allow-root --fail-on error --suppress-tags initial-upload-closes-no-bugs "$target/old.deb"
    echo "    lintian: $((SECONDS - began)) s"
    began=$SECONDS
    "${alone[@]}" --net "$0" --check
    echo "    installed, run, upgraded, removed and purged: $((SECONDS - began)) s"
    ;;
esac
