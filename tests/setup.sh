#!/bin/sh
# Makes target/venv, the Python of the end-to-end tests and the demo, and target/venv-5.3 with the oldest Celery that is
# tested, and sees that a redis-server is there. With the
# word `package` also what the tests of the Debian package need: debhelper, which makes it (and brings `man`), and
# lintian, which judges it; with the word `valgrind`, that, which counts instructions.
#
# Written for a fresh Debian 12; elsewhere, provide redis-server and a Python with the venv module and it only makes the venv.
# It may be called before every test run: a checksum of everything it depends on makes repeated calls free.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/target/venv
stamp=$venv/.stamp
words=" $* "
wanted=$(cd "$root" && cat tests/setup.sh tests/requirements*.txt | sha256sum)

# True if this word wasn't given.
unasked() {
    case $words in *" $1 "*) return 1 ;; esac
}

packaging_tools() {
    command -v dh >/dev/null && command -v lintian >/dev/null
}

current() {
    [ -x "$venv/bin/python" ] && [ -x "$venv-5.3/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] \
        && command -v redis-server >/dev/null && { unasked package || packaging_tools; } && { unasked valgrind || command -v valgrind >/dev/null; }
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    echo "setup: installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

has_venv() {
    "$1" -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

# The system's Python comes first: it is what a service under systemd would use.
find_python() {
    for python in /usr/bin/python3 python3; do
        if has_venv "$python"; then
            echo "$python"
            return
        fi
    done
    return 1
}

current && exit 0
mkdir -p "$root/target"
exec 9>"$root/target/.setup.lock"
flock 9
current && exit 0

if ! command -v redis-server >/dev/null; then
    install_packages redis-server
    # The package starts a server of its own. The tests use private ones, so the one we brought goes again.
    as_root service redis-server stop >/dev/null 2>&1 || true
    if [ -d /run/systemd/system ]; then as_root systemctl disable --quiet redis-server || true; fi
fi
if ! unasked package && ! packaging_tools; then
    install_packages debhelper lintian
fi
if ! unasked valgrind && ! command -v valgrind >/dev/null; then
    install_packages valgrind
fi
if ! python=$(find_python); then
    install_packages python3-venv
    python=$(find_python)
fi

echo "setup: making target/venv and target/venv-5.3 with $python"
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$root/tests/requirements.txt"
rm -rf "$venv-5.3"
"$python" -m venv "$venv-5.3"
"$venv-5.3/bin/pip" install --quiet --disable-pip-version-check --requirement "$root/tests/requirements-5.3.txt"
printf '%s\n' "$wanted" >"$stamp"
echo "setup: done"
