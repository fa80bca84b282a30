#!/bin/sh
# Installs Debian packages into the image, from where ci.yaml says.
#
#   debian.sh SNAPSHOT PACKAGE...
#
# SNAPSHOT: empty for the sources of the base as they are. `base` for the archive of the
# time that the base itself was made of, which the sources of Debian's official images
# name in comments: packages then follow from the base's digest. A time
# (20261101T000000Z) for that archive at another time.
set -eu

etc=${KFP_CI_ETC:-/etc} # another only in tests
snapshot=$1
shift

fail() {
    printf 'debian.sh: %s\n' "$1" >&2
    exit 1
}

# pinned FILE TIME: the sources in it, each from the archive that its comment names.
pinned() {
    awk -v time="$2" '
        /^# [a-z]+:\/\/[^ ]*\/[0-9]+T[0-9]+Z$/ { archive = $2; next }
        /^URIs:/ {
            if (archive == "") exit 1
            if (time != "base") sub(/[^\/]*$/, time, archive)
            print "URIs: " archive
            archive = ""
            next
        }
        { print }' "$1"
}

options=
if [ -n "$snapshot" ]; then
    [ "$snapshot" = base ] || expr "$snapshot" : '[0-9]\{8\}T[0-9]\{6\}Z$' >/dev/null ||
        fail "'$snapshot' is no time of a snapshot. Write it as 20261101T000000Z."
    sources=$(mktemp -d)
    pinned "$etc/apt/sources.list.d/debian.sources" "$snapshot" >"$sources/pinned.sources" ||
        fail "the sources of this base name no archive. Take an official image of Debian, or leave DEBIAN_SNAPSHOT empty."
    # For this time only: the image keeps its own sources. Lists of a snapshot are old.
    options="-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=$sources -o Acquire::Check-Valid-Until=false"
    chmod 755 "$sources"
fi

# Slim bases leave manuals out; Java's package fails without the directory.
mkdir -p /usr/share/man/man1

export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # words without spaces, all of them ours
apt-get $options -q update
# shellcheck disable=SC2086
apt-get $options -q -y install --no-install-recommends "$@"
[ -z "$snapshot" ] || rm -r "$sources"
