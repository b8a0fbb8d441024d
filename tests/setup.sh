#!/bin/sh
# Makes target/venv, the Python of the end-to-end tests and the demo, and target/venv-5.3 with the oldest Celery that is
# tested, in the oldest Python that is found, and sees that a redis-server and openssl are there. Further with the word
#   package: debhelper, which makes the Debian package (and brings `man`), and lintian, which judges it;
#   browser: chromium and its driver, to look at the pages of Flower;
#   valgrind: that, to count instructions.
#
# Written for a fresh Debian 12; elsewhere, provide redis-server and a Python with the venv module and it only makes the venv.
# It may be called before every test run: a checksum of everything it depends on makes repeated calls free.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/target/venv
stamp=$venv/.stamp
words=" $* "
wanted=$(cd "$root" && cat tests/setup.sh tests/requirements*.txt | sha256sum)

# Whether this word was given and one of these programs is missing.
lacks() {
    word=$1
    shift
    case $words in *" $word "*) ;; *) return 1 ;; esac
    for program in "$@"; do
        command -v "$program" >/dev/null || return 0
    done
    return 1
}

lacks_packaging() { lacks package dh lintian; }
lacks_browser() { lacks browser chromium chromedriver; }
lacks_valgrind() { lacks valgrind valgrind; }

current() {
    [ -x "$venv/bin/python" ] && [ -x "$venv-5.3/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] \
        && command -v redis-server >/dev/null && command -v openssl >/dev/null && ! lacks_packaging && ! lacks_browser && ! lacks_valgrind
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    echo "setup: installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Whether this is a Python that can make environments, of this minor version or a later one.
has_venv() {
    "$1" -c 'import ensurepip, venv, ssl, sqlite3, sys; sys.exit(sys.version_info < (3, int(sys.argv[1])))' "$2" 2>/dev/null
}

# The system's Python comes first: it is what a service under systemd would use.
find_python() {
    for python in /usr/bin/python3 python3; do
        if has_venv "$python" 10; then
            echo "$python"
            return
        fi
    done
    return 1
}

# What fairstalk supports begins with 3.9. pyenv's own commands stay in place when a version of theirs is not chosen.
find_oldest_python() {
    for minor in 9 10 11; do
        for python in "python3.$minor" "$HOME/.pyenv/versions/3.$minor".*/bin/python3; do
            if has_venv "$python" 9; then
                echo "$python"
                return
            fi
        done
    done
    find_python
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
if ! command -v openssl >/dev/null; then
    install_packages openssl
fi
if lacks_packaging; then
    install_packages debhelper lintian
fi
if lacks_browser; then
    install_packages chromium chromium-driver
fi
if lacks_valgrind; then
    install_packages valgrind
fi
if ! python=$(find_python); then
    install_packages python3-venv
    python=$(find_python)
fi

make_venv() {
    echo "setup: making target/$1 with $2 ($("$2" -V))"
    rm -rf "$root/target/$1"
    "$2" -m venv "$root/target/$1"
    "$root/target/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$root/tests/$3"
}

make_venv venv "$python" requirements.txt
make_venv venv-5.3 "$(find_oldest_python)" requirements-5.3.txt
printf '%s\n' "$wanted" >"$stamp"
echo "setup: done"
