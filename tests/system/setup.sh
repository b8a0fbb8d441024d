#!/bin/sh
# Makes target/system/base: Debian 12 with systemd, Redis and Python, and the packages of the example application in
# /srv/venv. The containers of the system tests lay their own changes over it, so it is made once.
#
# Needs root (it makes device nodes and enters the new root), and the network the first time.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
home=$root/target/system
base=$home/base
suite=bookworm
packages=systemd,systemd-sysv,dbus,redis-server,python3
wanted=$(cd "$root" && cat tests/system/setup.sh tests/requirements.txt | sha256sum)

current() {
    [ "$(cat "$home/.stamp" 2>/dev/null)" = "$wanted" ] && command -v systemd-nspawn >/dev/null
}

current && exit 0
mkdir -p "$home"
exec 9>"$home/.lock"
flock 9
current && exit 0

missing=
command -v debootstrap >/dev/null || missing=debootstrap
command -v systemd-nspawn >/dev/null || missing="$missing systemd-container"
if [ -n "$missing" ]; then
    echo "setup: installing $missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # two words are two packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

echo "setup: making target/system/base (Debian $suite)"
rm -rf "$home/.stamp" "$base" "$home/new"
debootstrap --variant=minbase --include="$packages" "$suite" "$home/new" >"$home/debootstrap.log" 2>&1 || {
    tail -n 20 "$home/debootstrap.log"
    exit 1
}
# What debootstrap takes over from this machine, and what would make each boot different from the last.
echo container >"$home/new/etc/hostname"
: >"$home/new/etc/machine-id"
rm -f "$home/new/etc/resolv.conf"
for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
    ln -sf /dev/null "$home/new/etc/systemd/system/$timer.timer"
done
rm -rf "$home/new/var/cache/apt/archives" "$home/new/var/lib/apt/lists"

# Its own interpreter, which need not be the one of target/venv: pip is told which one to choose wheels for.
version=$(chroot "$home/new" /usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
chroot "$home/new" /usr/bin/python3 -m venv --without-pip /srv/venv
"$root/target/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile --only-binary=:all: \
    --python-version "$version" --target "$home/new/srv/venv/lib/python$version/site-packages" \
    --requirement "$root/tests/requirements.txt"
chroot "$home/new" /srv/venv/bin/python -m compileall -q /srv/venv/lib

mv "$home/new" "$base"
printf '%s\n' "$wanted" >"$home/.stamp"
echo "setup: done"
