"""fairstalk in a container, as somebody who runs an application on a server has it: package, application, configuration."""
import json
import shutil
from contextlib import contextmanager

from . import PROJECT, ROOT
from .daemon import merged, toml
from .ledger import Ledger
from .waiting import eventually

UNIT = "fairstalk.service"
STATE = "/var/lib/fairstalk"
APPLICATION = "/srv/imgbackend"
PYTHON = "/srv/venv/bin/python"
CALLS = "/srv/calls.py"
CLAIMED = "return redis.call('HLEN', 'unacked') + redis.call('ZCARD', 'unacked_index')"
WAITING = "local n = 0 for i = 0, 19 do n = n + redis.call('LLEN', 'queue_' .. i) end return n"


def configuration(state=STATE):
    """Two workers with two slots each that run the example application; what it writes goes to the state directory."""
    env = {"DJANGO_SETTINGS_MODULE": "imgbackend.settings", "IMGBACKEND_DATA": state, "IMGBACKEND_FAIL_FIRST": "0"}
    return {
        "workers": {"processes": 2, "concurrency": 2},
        "python": {"app": "imgbackend", "directory": APPLICATION, "interpreter": PYTHON, "env": env},
        "tenancy": {"parameter": "user_id"},
    }


class Installation:
    """A container with the package and the application in it."""

    def __init__(self, container, package):
        self.container = container
        self.add_application()
        shutil.copy(ROOT / "tests" / "system" / "calls.py", container.path(CALLS))
        self.install(package)

    def add_application(self):
        """The example application as it is in the sources."""
        target = self.container.path(APPLICATION)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(PROJECT, target, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3*"))

    def install(self, package):
        """Install or upgrade, as `apt install ./fairstalk.deb` does; what apt and dpkg said."""
        shutil.copy(package, self.container.path("/srv/fairstalk.deb"))
        done = self.container.run("apt-get", "install", "--yes", "/srv/fairstalk.deb")
        return done.stdout + done.stderr

    def configure(self, name="fairstalk", base=None, **sections):
        """Write /etc/fairstalk/NAME.toml. Keywords are sections laid over `configuration`."""
        file = f"/etc/fairstalk/{name}.toml"
        self.container.write(file, toml(merged(base or configuration(), sections)))
        self.container.run("chown", "root:fairstalk", file)
        self.container.run("chmod", "640", file)

    def drop_in(self, *lines, unit=UNIT):
        """Change the unit, as `systemctl edit` does."""
        self.container.write(f"/run/systemd/system/{unit}.d/test.conf", "\n".join(("[Service]", *lines, "")))
        self.container.run("systemctl", "daemon-reload")

    def reset(self):
        """Back to a stopped daemon, an empty Redis and the configuration above, whatever a test has left."""
        container = self.container
        container.run("systemctl", "kill", "--signal=KILL", UNIT, check=False)
        container.run("systemctl", "stop", "fairstalk*")
        container.run("systemctl", "disable", "--quiet", UNIT)
        container.run("sh", "-c", "rm -rf /run/systemd/system/fairstalk* /var/lib/fairstalk/*")
        container.run("systemctl", "daemon-reload")
        container.run("systemctl", "reset-failed")
        self.redis("FLUSHALL")
        self.add_application()
        self.configure()

    def start(self):
        """Start the daemon; returns when it has told systemd that it is ready."""
        self.container.run("systemctl", "start", UNIT)

    def active(self, unit=UNIT):
        """What `systemctl is-active` says."""
        return self.container.run("systemctl", "is-active", unit, check=False).stdout.strip()

    def main_pid(self):
        """The supervisor's pid, as the container counts; 0 when there is none."""
        return int(self.container.properties(UNIT, "MainPID")["MainPID"])

    def processes(self, title=""):
        """Processes of the daemon by their titles: `worker 1`, `zygote`, `runner of worker1@`."""
        return self.container.processes(f"fairstalk: {title}")

    def supervisor(self):
        """The supervisor of the one daemon there is."""
        (found,) = self.container.processes("/usr/bin/fairstalk run")
        return found

    def command(self, function, *arguments):
        """The command that calls a function of calls.py in a process of the application's user."""
        env = [f"{key}={value}" for key, value in configuration()["python"]["env"].items()]
        return ["runuser", "-u", "fairstalk", "--", "env", *env, PYTHON, CALLS, function, *map(json.dumps, arguments)]

    def call(self, function, *arguments):
        """Call a function of calls.py; what it returns."""
        return json.loads(self.container.run(*self.command(function, *arguments)).stdout)

    @contextmanager
    def load(self, seconds=0.05, every=0.025):
        """Tasks are sent all the time inside the block. Yields a list; their ids are in it afterwards."""
        ids = []
        with self.container.running(*self.command("send_until_closed", f"{STATE}/ledger", seconds, every)) as sender:
            self.ledger().wait("end", 1)
            yield ids
        ids += json.loads(sender.output)

    def send_records(self, count, seconds, queue=None, state=STATE):
        """Send so many tasks that write down their start and end in the ledger; their ids."""
        return self.call("send_records", f"{state}/ledger", count, seconds, queue)

    def ledger(self, state=STATE):
        """What `send_records` left."""
        return Ledger(self.container.path(f"{state}/ledger"))

    def check_records(self, ids, reruns=0, state=STATE):
        """Wait for the results of `send_records`; nothing is lost, and no more than `reruns` runs were second ones."""
        assert self.call("results", ids) == list(range(len(ids)))
        ledger = self.ledger(state)
        runs = ledger.runs()
        assert set(runs) == set(ids) == {line["task"] for line in ledger.lines("end")}
        assert sum(len(pids) - 1 for pids in runs.values()) <= reruns
        self.wait_settled()

    def redis(self, *command):
        """What redis-cli prints."""
        return self.container.run("redis-cli", *command).stdout.strip()

    def wait_settled(self):
        """Wait until nothing is claimed."""
        eventually(lambda: self.redis("EVAL", CLAIMED, "0") == "0", what=lambda: self.redis("HGETALL", "unacked"))

    def waiting(self):
        """How many messages wait in the queues."""
        return int(self.redis("EVAL", WAITING, "0"))

    def dead_letters(self):
        """Entries of all dead letters, as `fairstalk dead list` has them."""
        lines = self.container.run("fairstalk", "dead", "list", "--json").stdout.splitlines()
        return [json.loads(line)["entry"] for line in lines]

    def status_text(self):
        """The text that the daemon gave to systemd last."""
        return self.container.properties(UNIT, "StatusText")["StatusText"]

    def wait_status(self, part):
        """Wait until this is a part of the STATUS text."""
        eventually(lambda: part in self.status_text(), what=lambda: f"{part!r} in {self.status_text()!r}")
