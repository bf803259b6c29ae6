# Sourced by scripts that make a Debian of this machine's release in a folder, from this machine's own mirrors.

# This machine's own mirrors of Debian, one `deb` line each.
mirrors() {
    # shellcheck disable=SC2016  # fields of apt
    apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/^Debian //p' | sort -u
}

# How this machine reaches them.
apt_settings() {
    apt-config dump --no-empty --format '%F "%v";%n' \
        Acquire::http Acquire::https Acquire::Check-Valid-Until Acquire::Check-Date Acquire::Retries
}

# `make_debian FOLDER [OPTION...]`: an empty folder or a new one, and more options of mmdebstrap.
make_debian() {
    local root=$1 files codename
    shift
    files=$(mktemp -d)
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    mirrors >"$files/list"
    apt_settings >"$files/conf"
    if [ ! -s "$files/list" ]; then codename=stable; fi # Not a Debian: mmdebstrap knows where Debian is.
    # shellcheck disable=SC2046  # a word or none
    mmdebstrap --quiet --mode=root --aptopt="$files/conf" "$@" \
        "$codename" "$root" $([ -s "$files/list" ] && echo "$files/list")
    rm -r "$files"
    # Trusted by this machine, and by the new one as soon as it has the package ca-certificates.
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates" 2>/dev/null || true
}
