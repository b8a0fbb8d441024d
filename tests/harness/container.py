"""A booted Debian, to see the package under the systemd it is made for.

The root is shared and read-only, changes are kept in memory; the network is the container's own and leads nowhere. All of
it hangs on one process: when that goes, however it goes, nothing is left mounted or running.
"""
import json
import os
import shutil
import signal
import subprocess
import uuid
from contextlib import contextmanager
from pathlib import Path

from . import ROOT
from .processes import processes, tree
from .waiting import eventually

BASE = ROOT / "target" / "system" / "base"
BOOT = Path(__file__).with_name("boot-container.sh")
BOOT_PATIENCE = 60.0
COMMAND_PATIENCE = 120.0
CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


def why_not():
    """Why this machine can't boot containers, or None if it can: each thing that it takes is tried."""
    if os.geteuid() != 0:
        return "they need root; `make test-system` uses sudo"
    if shutil.which("debootstrap") is None and shutil.which("apt-get") is None:
        return "they need debootstrap and systemd-nspawn, and there is no apt-get to install them"
    steps = (
        "mount -t tmpfs tmpfs /run && mkdir /run/upper /run/work /run/root && "
        "mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /run/root && "
        "test -w /sys/fs/cgroup"
    )
    trial = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", steps], capture_output=True, text=True
    )
    if trial.returncode != 0:
        return f"they need to mount, and to make control groups (an unprivileged container?): {trial.stderr.strip()}"
    return None


class Container:
    """A container of its own root, name, network and control group. `with Container() as container` boots it."""

    def __init__(self, directory):
        self.name = f"fairstalk-{uuid.uuid4().hex[:12]}"
        self.console = Path(directory) / f"{self.name}.log"
        self.process = None
        self.init = None

    def __enter__(self):
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid"]
        command += ["--fork", "--kill-child=KILL", "--mount-proc", "sh", BOOT, BASE, self.name]
        if Path("/run/systemd/system").is_dir():
            command = ["systemd-run", "--scope", "--quiet", "--property=Delegate=yes", f"--unit={self.name}", *command]
        with open(self.console, "ab") as log:
            self.process = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.wait_booted()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception):
        self.close()

    def wait_booted(self, after=None):
        """Wait until systemd has started everything; `after` is the init before a reboot."""

        def running():
            assert self.process.poll() is None, f"the container ended:\n{self.console.read_text(errors='replace')}"
            self.init = self.find_init()
            if self.init in (None, after):
                return False
            state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
            assert state != "degraded", self.run("systemctl", "--failed").stdout
            return state == "running"

        eventually(running, BOOT_PATIENCE, lambda: f"a booted container:\n{self.console.read_text(errors='replace')}")

    def find_init(self):
        """The pid of its first process, as this machine counts."""
        found = tree(self.process.pid)
        spawn = {process.pid for process in found if process.cmdline.startswith("systemd-nspawn")}
        for process in found:
            if process.ppid in spawn and "systemd" in process.cmdline and innermost_pid(process.pid) == 1:
                return process.pid
        return None

    def reboot(self):
        """Shut down and boot again. Files stay."""
        before = self.init
        self.run("systemctl", "reboot", check=False)
        self.wait_booted(after=before)

    def close(self):
        """Kill everything in it."""
        if self.process is None:
            return
        inside = {process.pid for process in tree(self.process.pid)}
        self.process.kill()
        self.process.wait()
        eventually(
            lambda: not any(process.pid in inside and process.state not in "ZX" for process in processes().values()),
            what="the end of the container's processes",
        )
        for group in CGROUPS:
            for directory, _, _ in os.walk(f"{group}/{self.name}", topdown=False):
                os.rmdir(directory)
        self.process = None

    def inside(self, command):
        """The command line that runs a command in the container, as its root."""
        enter = ["nsenter", f"--target={self.init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        enter += ["--root", "--wd", "env", "-i", *(f"{key}={value}" for key, value in ENVIRONMENT.items())]
        return [*enter, *map(str, command)]

    def run(self, *command, check=True, timeout=COMMAND_PATIENCE):
        """Run a command and return what became of it. `check`: it has to succeed."""
        done = subprocess.run(
            self.inside(command), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @contextmanager
    def running(self, *command):
        """A command that runs inside the block. When it ends, standard input is closed, and `output` is there."""
        popen = subprocess.Popen(
            self.inside(command), cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield popen
            popen.output, errors = popen.communicate(timeout=COMMAND_PATIENCE)
            assert popen.returncode == 0, errors
        finally:
            popen.kill()
            popen.wait()

    def path(self, inside):
        """The same file as this machine sees it. Links with absolute targets lead astray."""
        return Path(f"/proc/{self.init}/root{inside}")

    def write(self, inside, text):
        """Write a file, with its directory; one that exists keeps owner and mode."""
        file = self.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def processes(self, part=""):
        """Its processes whose command line has this part, zombies excepted."""
        mine = namespace(self.init)
        return [
            process
            for process in processes().values()
            if part in process.cmdline and process.state not in "ZX" and namespace(process.pid) == mine
        ]

    def kill(self, pid, number=signal.SIGKILL):
        """Send a signal to a process of `processes`."""
        os.kill(pid, number)

    def properties(self, unit, *names):
        """Properties of a unit, as `systemctl show` prints them."""
        shown = self.run("systemctl", "show", unit, f"--property={','.join(names)}").stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def journal(self, *matches):
        """Journal entries as mappings, the oldest first."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--output=json", "--all", *matches).stdout.splitlines()
        return [json.loads(line) for line in lines]


def namespace(pid):
    """Which PID namespace a process lives in; None when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def innermost_pid(pid):
    """The pid of a process in its own namespace; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[-1]) for line in lines if line.startswith("NSpid:"))
