# Sourced by scripts that pack the two programs, in the root of the repository or of a copy.

PATH="$PWD/target/tools/bin:$PATH"

# `pack_texts FOLDER`: completions, manual pages and the licences of what is linked, for the programs in FOLDER, in FOLDER/package.
pack_texts() {
    local texts=$1/package program
    rm -rf "$texts"
    mkdir -p "$texts/man"
    for program in punctual-agent punctual-config-service; do
        "$1/$program" man --to "$texts/man" >/dev/null
        "$1/$program" completions bash >"$texts/$program"
        "$1/$program" completions zsh >"$texts/_$program"
        "$1/$program" completions fish >"$texts/$program.fish"
    done
    gzip -9n "$texts"/man/*
    /usr/bin/python3 tests/components.py licences | gzip -9n >"$texts/third-party-licences.txt.gz"
}

# `make_deb TARGET VERSION FILE [OPTION...]`: the Debian package of the programs in TARGET/release, after pack_texts, and more
# options of cargo-deb.
make_deb() {
    local target=$1 version=$2 file=$3 day
    shift 3
    day=$(LC_ALL=C date --utc --rfc-email ${SOURCE_DATE_EPOCH:+--date="@$SOURCE_DATE_EPOCH"})
    printf 'punctual (%s) unstable; urgency=medium\n\n  * Release of this version.\n\n -- %s  %s\n' "$version" \
        "$(sed -n 's/^maintainer = "\(.*\)"/\1/p' bins/agent/Cargo.toml)" "$day" |
        gzip -9n >"$target/release/package/changelog.Debian.gz"
    CARGO_TARGET_DIR=$target cargo deb --quiet --no-build --no-strip --locked \
        --package punctual-agent --deb-version "$version" --output "$file" "$@" >/dev/null
}
