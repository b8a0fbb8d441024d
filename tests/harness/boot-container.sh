#!/bin/sh
# Boots a copy of a root directory with systemd-nspawn, again after each reboot. Usage: boot-container.sh BASE NAME
#
# It runs as the first process of a mount and a PID namespace of its own. Whatever it mounts and starts is gone when it
# is, however it ends. What the container writes goes to memory, on top of BASE, and outlasts reboots of the container.
set -eu
base=$1
name=$2

# A control group of its own, so that two containers never share one. Not where systemd has made a scope for us.
if [ ! -d /run/systemd/system ]; then
    for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        [ -e "$tree/cgroup.procs" ] || continue
        # Memory limits for what runs in the container, where the machine has this controller to give.
        { echo +memory >"$tree/cgroup.subtree_control"; } 2>/dev/null || :
        mkdir "$tree/$name"
        echo 0 >"$tree/$name/cgroup.procs"
    done
fi

mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o "lowerdir=$base,upperdir=/run/upper,workdir=/run/work" overlay /run/root

# Debian 12 mounts the unified hierarchy alone, whatever this machine does.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
reboot=133
status=$reboot
while [ "$status" -eq "$reboot" ]; do
    status=0
    systemd-nspawn --quiet --boot --directory=/run/root --machine="$name" --register=no --keep-unit \
        --private-network --resolv-conf=off --timezone=off --console=pipe || status=$?
done
exit "$status"
