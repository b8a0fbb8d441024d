"""fairstalk under test: its configuration file, its process, and what it tells systemd."""
import json
import os
import subprocess
import sys
from pathlib import Path

from . import PROJECT, ROOT
from .notify import NotifySocket
from .processes import ProcessUnderTest
from .waiting import PATIENCE, eventually

START_PATIENCE = 60.0


def binary():
    """The program to test: FAIRSTALK_BIN, or what `cargo build` makes."""
    return Path(os.environ.get("FAIRSTALK_BIN") or ROOT / "target" / "debug" / "fairstalk")


def merged(base, overrides):
    """`overrides` laid over `base`, table by table; a value of None removes the key."""
    result = dict(base)
    for key, value in overrides.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def inline(value):
    """One TOML value. JSON's strings, numbers and booleans are TOML's too."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)


def toml(sections):
    """A configuration file: one table per section, deeper tables inline."""
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{json.dumps(key)} = {inline(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def base_config(broker_url, app_env):
    """Two workers with two slots each that run the example application."""
    return {
        "broker": {"url": broker_url},
        "workers": {"processes": 2, "concurrency": 2},
        "python": {"app": "imgbackend", "directory": PROJECT, "interpreter": sys.executable, "env": app_env},
        "tenancy": {"parameter": "user_id"},
    }


def clean_environment(**extra):
    """Our environment without anything that would configure fairstalk or the application by accident."""
    foreign = ("FAIRSTALK_", "CELERY_", "IMGBACKEND_", "NOTIFY_SOCKET", "WATCHDOG_", "DJANGO_")
    return {**{key: value for key, value in os.environ.items() if not key.startswith(foreign)}, **extra}


class Fairstalk(ProcessUnderTest):
    """`fairstalk run` with a notify socket of its own. Construction starts it; `wait_ready` waits for READY=1."""

    def __init__(self, directory, config, env=None, program=None, arguments=(), before=()):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_file = self.directory / "fairstalk.toml"
        self.configure(config)
        self.notify = NotifySocket()
        self.env = clean_environment(**{"NOTIFY_SOCKET": self.notify.path, **(env or {})})
        command = [*before, program or binary(), "run", "--config", self.config_file, *arguments]
        super().__init__(command, self.directory / "fairstalk.log", self.env, self.directory)

    def configure(self, config):
        """Write the configuration file; a running daemon reads it again at HUP."""
        self.config_file.write_text(config if isinstance(config, str) else toml(config))

    def wait_ready(self, timeout=START_PATIENCE):
        """Wait for READY=1, and no longer once the process has ended."""

        def ready_or_ended():
            return "1" in self.notify.states("READY") or self.popen.poll() is not None

        eventually(ready_or_ended, timeout, lambda: f"READY=1 from {self.describe()}:\n{self.log()}")
        if "1" not in self.notify.states("READY"):
            raise AssertionError(f"{self.describe()}, before READY=1:\n{self.log()}")
        return self

    def call(self, *arguments):
        """Run another command of the program with the same configuration and environment."""
        return subprocess.run(
            [binary(), *map(str, arguments), "--config", self.config_file],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=START_PATIENCE,
        )

    def ask(self, *arguments):
        """What a command prints with `--json`, one object per line."""
        done = self.call(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def dead_letters(self):
        """Entries of all dead letters, the newest first."""
        return [letter["entry"] for letter in self.ask("dead", "list")]

    def pids(self, title):
        """Pids of the live processes of this daemon whose title begins so: `worker 1`, `zygote`, `runner of worker1@`."""
        return [process.pid for process in self.left() if process.cmdline.startswith(f"fairstalk: {title}")]

    def records(self):
        """The log as records, where it was written as JSON."""
        return [json.loads(line) for line in self.log().splitlines()]

    def close(self):
        """End it and everything it left, and complain about what outlived the supervisor.

        A process that is still being killed by the kernel gets a moment, nothing else does.
        """
        try:
            if self.popen.poll() is None:
                self.stop()
            eventually(lambda: not self.left(), PATIENCE / 5, lambda: f"processes left behind: {self.left()}")
        finally:
            self.clear_away()
            self.notify.close()
