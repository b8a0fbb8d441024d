"""What was measured, and on what."""
import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

import celery
import kombu
import redis
from harness import ROOT


def output(*command):
    """What a command prints."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def cpu_model():
    """As the kernel calls it."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def commit():
    """The commit, with a + if the work tree differs from it in anything that is measured."""
    measured = ["src", "Cargo.toml", "Cargo.lock", "benches/*.py", "examples", "tests/harness"]
    changed = output("git", "status", "--porcelain", "--", *measured)
    return output("git", "rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def description():
    """Date, commit, machine and versions; and the load before the first run, to tell a noisy machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": {
            "cpu": cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory / 2**30, 1),
            "kernel": platform.release(),
            "load": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "redis": re.search(r"v=(\S+)", output("redis-server", "--version"))[1],
            "python": platform.python_version(),
            "celery": celery.__version__,
            "kombu": kombu.__version__,
            "redis-py": redis.__version__,
        },
    }
