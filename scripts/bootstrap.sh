#!/usr/bin/env bash
# Makes a bare machine ready: Docker engine with BuildKit, registry, Debian tools and
# the Python environment. Idempotent; what is there is used and skipped.
#
#   scripts/bootstrap.sh            what the product needs
#   scripts/bootstrap.sh --tests    and what only its tests need (skopeo, cosign, busybox, ssh, groovy)
#
# As root on Debian 12 or later it installs what is missing. Elsewhere it says, in one
# sentence, what to install.
set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$repository/.venv
prepared=${KFP_CI_PREPARED:-/opt/kfp-ci} # what an agent's image brings
logs=${KFP_CI_HOME:-$HOME/.local/share/kfp-ci}/logs
tests=no

say() { printf 'bootstrap: %-11s %s\n' "$1" "$2"; }
fail() {
    printf 'bootstrap: %s\n' "$1" >&2
    exit 13
}
have() { command -v "$1" >/dev/null 2>&1; }

for argument in "$@"; do
    case $argument in
    --tests) tests=yes ;;
    *) fail "unknown option '$argument'. Use: scripts/bootstrap.sh [--tests]." ;;
    esac
done

# os_release NAME: one value of /etc/os-release, empty where there is none.
os_release() {
    [ -r /etc/os-release ] || return 0
    sed -n "s/^$1=//p" /etc/os-release | tr -d '"'
}
codename=$(os_release VERSION_CODENAME)

on_debian_as_root() {
    [ "$(id -u)" = 0 ] && have apt-get && [ "$(os_release ID)" = debian ]
}

# Package lists are fetched once a run, and only if something is to be installed.
lists=old
apt_install() {
    if [ "$lists" = old ]; then
        DEBIAN_FRONTEND=noninteractive apt-get update -q >"$logs/apt.log" 2>&1 ||
            fail "apt-get update failed. Mend the package sources; see $logs/apt.log."
        lists=fresh
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" \
        >>"$logs/apt.log" 2>&1 || fail "apt-get could not install $*. See $logs/apt.log."
}

# debian_tool PROGRAM PACKAGE: used from PATH, else installed.
debian_tool() {
    if have "$1"; then
        say "$1" "found"
    elif on_debian_as_root; then
        apt_install "$2"
        say "$1" "installed"
    else
        say "$1" "missing; install the package '$2' (not needed where a container or a public registry takes its place)"
    fi
}

# Engine --------------------------------------------------------------------------

engine_answers() { docker info >/dev/null 2>&1; }
buildx_works() { docker buildx version >/dev/null 2>&1; }

# The file that names this machine's Debian mirror: Debian's own names first, since other
# vendors' files may name a suite 'bookworm' too.
debian_source() {
    local file
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list \
        /etc/apt/sources.list.d/*debian*; do
        if [ -f "$file" ] && grep -Eqs '^(Suites:|deb ).*\bbookworm\b' "$file"; then
            printf '%s' "$file"
            return
        fi
    done
    fail "no Debian package source was found. Add one to /etc/apt/sources.list.d/debian.sources."
}

# Debian 12 has no buildx. Its successor's packages need nothing newer than its libc, so
# they are taken from there, and only they: priority 100 is below everything installed.
add_trixie() {
    local source suffix=sources
    [ "$codename" = bookworm ] || return 0
    source=$(debian_source)
    case $source in *.list) suffix=list ;; esac
    sed 's/\bbookworm\b/trixie/g' "$source" >"/etc/apt/sources.list.d/kfp-ci-trixie.$suffix"
    printf 'Package: *\nPin: release n=trixie*\nPin-Priority: 100\n' \
        >/etc/apt/preferences.d/kfp-ci-trixie
}

install_engine() {
    on_debian_as_root ||
        fail "no Docker engine with buildx answers. Install and start one, or run this as root on Debian."
    add_trixie
    if [ "$codename" = bookworm ]; then
        apt_install docker.io/trixie docker-cli/trixie docker-buildx/trixie
    else
        apt_install docker.io docker-cli docker-buildx
    fi
    say engine "installed"
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        systemctl start docker >/dev/null 2>&1 || true
    else
        setsid dockerd >>"$logs/dockerd.log" 2>&1 </dev/null &
    fi
    for _ in $(seq 1 120); do
        if engine_answers; then
            say engine "started"
            return
        fi
        sleep 0.25
    done
    fail "the Docker engine did not answer within 30 seconds. Its last words: $(tail -n 1 "$logs/dockerd.log" 2>/dev/null || true)"
}

# A client that was installed otherwise may come first on PATH and look for plug-ins
# elsewhere: the user's own directory is looked into by every client.
link_buildx() {
    local plugin directory=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
    for plugin in /usr/libexec/docker/cli-plugins/docker-buildx /usr/lib/docker/cli-plugins/docker-buildx; do
        if [ -x "$plugin" ]; then
            mkdir -p "$directory"
            ln -sf "$plugin" "$directory/docker-buildx"
            return
        fi
    done
}

# A BuildKit elsewhere, in the place of an engine or beside it: the one of BUILDKIT_HOST, as
# agents in Kubernetes have it, or whichever buildx is set to already. Answers `running`,
# another state of it, or nothing where there is none.
remote_builder() {
    local told
    if [ -n "${BUILDKIT_HOST:-}" ]; then
        told=$(docker buildx inspect kfp-ci 2>/dev/null || true)
        if [[ $told != *" $BUILDKIT_HOST"$'\n'* ]]; then
            docker buildx rm kfp-ci >/dev/null 2>&1 || true
            docker buildx create --name kfp-ci --driver remote --use "$BUILDKIT_HOST" >/dev/null 2>&1 ||
                fail "buildx takes no builder at BUILDKIT_HOST=$BUILDKIT_HOST. Name it as buildx' driver 'remote' takes it."
        fi
    fi
    told=$(docker buildx inspect 2>/dev/null) || return 0
    if [[ $told =~ Driver:[[:space:]]+remote[[:space:]] ]]; then
        [[ $told =~ Status:[[:space:]]+([a-z]+) ]] || true
        printf '%s' "${BASH_REMATCH[1]:-unknown}"
    elif [[ $told =~ Driver:[[:space:]]+kubernetes[[:space:]] ]]; then
        printf running # or its pods are, as soon as something is built
    fi
}

engine() {
    local remote
    remote=$(remote_builder) || exit
    [ -z "$remote" ] || [ "$remote" = running ] ||
        fail "the remote builder that buildx is set to does not answer. Look at 'docker buildx ls'."
    if engine_answers; then
        say engine "found"
    elif [ -n "$remote" ]; then
        say engine "none; images are built on buildx' remote builder"
        return
    else
        [ -z "${DOCKER_HOST:-}" ] ||
            fail "the Docker engine of DOCKER_HOST=$DOCKER_HOST does not answer. Start it, or unset DOCKER_HOST."
        [ "$(id -u)" = 0 ] ||
            fail "no Docker engine answers to user $(id -un). Start one, or join the group 'docker', or run this as root on Debian."
        if ! have docker || ! have dockerd; then install_engine; fi
        start_engine
    fi
    if buildx_works; then
        say buildx "found"
        return
    fi
    link_buildx
    if ! buildx_works && on_debian_as_root; then
        add_trixie
        if [ "$codename" = bookworm ]; then apt_install docker-buildx/trixie; else apt_install docker-buildx; fi
        buildx_works || link_buildx
    fi
    buildx_works || fail "the Docker client has no buildx. Install the plug-in 'docker-buildx'."
    say buildx "ready"
}

# Python --------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if have "$candidate" &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# An agent's image (agent/Dockerfile) holds an environment of these very locks, without
# what only tests use.
prepared_fits() {
    local lock
    [ "$tests" = no ] || return 1
    for lock in run.lock tools.lock; do
        cmp -s "$prepared/$lock" "$repository/requirements/$lock" || return 1
    done
    "$prepared/venv/bin/python" -c '' 2>/dev/null
}

# An environment of this checkout's own on the packages of the agent's image, which is
# not written to: what lies in here comes first, wherever Python is started.
layer_on_prepared() {
    local packages program
    packages=$("$prepared/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$prepared/venv/bin/python" -m venv --clear --without-pip "$venv"
    printf '%s\n%s\n' "$repository" "$packages" \
        >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kfp-ci.pth"
    for program in "$prepared"/venv/bin/*; do
        [ -e "$venv/bin/${program##*/}" ] || ln -s "$program" "$venv/bin/"
    done
}

python_environment() {
    local stamp=$venv/.bootstrap wanted python layered
    wanted=$(cat "$repository/requirements/dev.lock" "$repository/requirements/tools.lock" \
        "$repository/setup.cfg" "$repository/pyproject.toml" | sha256sum)
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        say python "found"
        return
    fi
    if prepared_fits; then
        # Of this image: a workspace outlives it.
        wanted="$wanted on $(readlink -f "$prepared/venv/bin/python")"
        if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
            layer_on_prepared
            printf '%s\n' "$wanted" >"$stamp"
        fi
        say python "found in $prepared"
        return
    fi
    # One that was layered on another image is no start for what is installed here.
    for layered in "$venv"/lib/python3*/site-packages/kfp-ci.pth; do
        [ ! -e "$layered" ] || rm -rf "$venv"
    done
    if ! python=$(find_python); then
        on_debian_as_root || fail "no Python 3.10 or newer was found. Install one."
        apt_install python3 python3-venv
        python=$(find_python) || fail "this Debian's Python is older than 3.10. Install a newer one."
    fi
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        # A minimal Debian has python3 without ensurepip, which only venv's package brings.
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            on_debian_as_root || fail "$python has no venv module. Install the package python3-venv."
            apt_install python3-venv
        fi
        "$python" -m venv --clear "$venv"
    fi
    rm -f "$stamp"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r "$repository/requirements/tools.lock" ||
        fail "uv could not be installed. Check that the package index can be reached."
    VIRTUAL_ENV=$venv "$venv/bin/uv" pip sync --quiet --compile-bytecode --require-hashes \
        "$repository/requirements/dev.lock" "$repository/requirements/tools.lock" ||
        fail "the packages of requirements/dev.lock could not be installed. Check that the package index can be reached."
    VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation \
        --config-setting editable_mode=compat --editable "$repository" ||
        fail "the package itself could not be installed into $venv."
    # Where the environment forbids Python to keep bytecode, each start would compile
    # all anew: half of what a plan takes.
    "$venv/bin/python" -m compileall -q "$repository/ci" "$repository/ci_tools" || true
    printf '%s\n' "$wanted" >"$stamp"
    say python "installed into $venv"
}

mkdir -p "$logs"
engine
debian_tool docker-registry docker-registry
debian_tool mmdebstrap mmdebstrap
if [ "$tests" = yes ]; then
    debian_tool skopeo skopeo
    have cosign || ! on_debian_as_root || add_trixie # Debian 12 has none
    debian_tool cosign cosign
    debian_tool busybox busybox-static
    debian_tool ssh-agent openssh-client
    # 60 MB, most of it the Java runtime that a machine without one gets with it.
    debian_tool groovy groovy
fi
python_environment
