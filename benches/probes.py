"""Instruments: CPU time and memory of processes, counters of Redis. None of them slows what it measures noticeably."""
import os
import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path


def cpu_seconds(pid):
    """User and system time of a process with all its threads, to the nanosecond.

    It is the sum of utime and stime of /proc/<pid>/stat, which has 10 ms steps: too coarse for an idle daemon. The
    clock's number is what clock_getcpuclockid(3) would return.
    """
    return time.clock_gettime((~pid << 3) | 2)


def thread_seconds(pid):
    """The same of a process's first thread alone, while it sleeps: then it is exact."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def cpu_by_kind(kinds):
    """CPU seconds so far, summed for each kind of process; `kinds` maps pids to kinds."""
    total = Counter()
    for pid, kind in kinds.items():
        with suppress(OSError):  # a command that has ended
            total[kind] += cpu_seconds(pid)
    return total


def pss(pid):
    """Proportional set size in bytes: what a process holds alone, and its share of what it holds with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no Pss of process {pid}")


class Gauge:
    """How many messages are not yet acknowledged, in a form that can be asked every few milliseconds.

    One pipelined request on a socket of its own, some 30 us here and as much in Redis. `counters` are fields of hashes.
    """

    def __init__(self, path, lists, hashes, counters=()):
        commands = [("LLEN", name) for name in lists] + [("HLEN", name) for name in hashes]
        commands += [("HGET", *counter) for counter in counters]
        self.commands = len(commands)
        self._request = b"".join(self._encode(*words) for words in commands)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(os.fspath(path))
        self.asked = 0

    @staticmethod
    def _encode(*words):
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)

    def read(self):
        """(time, messages)."""
        self.asked += 1
        self._socket.sendall(self._request)
        answer, values = b"", []
        while len(values) < self.commands:
            answer += self._socket.recv(4096)
            # A number is `:5`, a text `$1` and `5` in two lines, nothing at all `$-1`.
            values = [line for line in answer.split(b"\r\n")[:-1] if line[:1] != b"$" or line == b"$-1"]
        return time.monotonic(), sum(int(line.lstrip(b":")) for line in values if line != b"$-1")

    def close(self):
        """Hang up."""
        self._socket.close()


class Counters:
    """Redis's own counters, less what this benchmark has caused."""

    def __init__(self, client, gauge=None):
        self.client, self.gauge = client, gauge
        self.infos = 0

    def read(self):
        """Commands executed, those inside scripts included; scripts run; requests: reads from a client's socket.

        A pipeline is one request, as is a script with everything in it: requests are what the network sees.
        """
        stats = self.client.info("everything")
        asked = self.gauge.asked if self.gauge else 0
        own = asked * self.gauge.commands if self.gauge else 0
        scripts = sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))
        # An INFO is counted as a request before it is carried out, and as a command after.
        taken = {
            "commands": stats["total_commands_processed"] - own - self.infos,
            "scripts": scripts,
            "requests": stats["total_reads_processed"] - asked - self.infos - 1,
            "script_usec": sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("evalsha", "eval")),
        }
        self.infos += 1
        return taken


def difference(after, before):
    """Counter by counter."""
    return {key: after[key] - before.get(key, 0) for key in after}
