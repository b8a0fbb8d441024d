"""A process under test and everything it starts."""
import os
import re
import signal
import subprocess
import uuid
from pathlib import Path
from typing import NamedTuple

from .waiting import PATIENCE, eventually

MARK = "FAIRSTALK_TEST_RUN"


class Process(NamedTuple):
    """One line of the process table."""

    pid: int
    ppid: int
    cmdline: str
    state: str
    session: int


def processes():
    """The process table, from /proc. The command line of a zombie is its name and `<defunct>`."""
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            head, _, tail = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")
            cmdline = Path("/proc", entry, "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, ppid, _, session = tail.split()[:4]
        text = cmdline.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        name = head.partition("(")[2]
        table[int(entry)] = Process(
            int(entry), int(ppid), f"{name} <defunct>" if state == "Z" else text or name, state, int(session)
        )
    return table


def tree(pid):
    """`pid` and all its descendants, parents first."""
    table = processes()
    found = [table[pid]] if pid in table else []
    for parent in found:
        found.extend(process for process in table.values() if process.ppid == parent.pid)
    return found


def marked(mark):
    """Pids that were started with this mark in their environment, wherever they hang now."""
    pids = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if f"{MARK}={mark}".encode() in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    pids.add(int(entry))
            except OSError:
                continue
    return pids


class ProcessUnderTest:
    """A process in a session of its own, with its output in a file.

    Its descendants are found even when it is dead: by the session they inherit, and by a mark in the environment
    for those who leave the session.
    """

    def __init__(self, command, log_file, env, directory):
        self.command = [str(part) for part in command]
        self.log_file = Path(log_file)
        self.mark = uuid.uuid4().hex
        with open(self.log_file, "ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                cwd=directory,
                env={**env, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self.popen.pid

    def log(self):
        """Everything written to standard error and standard output."""
        return self.log_file.read_text(errors="replace")

    def wait_log(self, pattern, timeout=PATIENCE):
        """Return the match of a regular expression in the log, as soon as there is one."""
        compiled = re.compile(pattern, re.MULTILINE)

        def found():
            match = compiled.search(self.log())
            if match is None and self.popen.poll() is not None:
                raise AssertionError(f"{self.describe()}, before it logged {pattern!r}:\n{self.log()}")
            return match

        return eventually(found, timeout, lambda: f"log line {pattern!r}:\n{self.log()}")

    def describe(self):
        """How it stands with the process."""
        return f"{os.path.basename(self.command[0])} (pid {self.pid}), exit code {self.popen.returncode}"

    def tree(self):
        """(pid, parent's pid, command line) of it and of its descendants, itself first."""
        return [(process.pid, process.ppid, process.cmdline) for process in tree(self.pid)]

    def left(self):
        """Whatever runs of it and its descendants, orphans included; zombies do not run."""
        mark = marked(self.mark)
        return [p for p in processes().values() if (p.session == self.pid or p.pid in mark) and p.state not in "ZX"]

    def signal(self, number):
        """Send a signal to the process alone."""
        self.popen.send_signal(number)

    def wait(self, timeout=PATIENCE):
        """Its exit code, negative for a signal, once it has ended."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.describe()}, did not end within {timeout:g} s:\n{self.log()}") from None

    def stop(self, timeout=90.0):
        """Ask it to end (TERM) and return its exit code."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        """SIGKILL to the process alone: whether its children follow is for the test to see."""
        self.popen.kill()
        return self.wait()

    def clear_away(self):
        """Kill whatever is left of it. Returns what was left, so that the caller can complain."""
        left = self.left()
        while self.left():
            for process in self.left():
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.popen.poll()
        self.wait()
        return left
