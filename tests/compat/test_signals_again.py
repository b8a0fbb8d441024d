"""Signals of a second life of the application: after a reload, and after its process was killed."""
import json
import os
import signal

import compat_tasks as t
from stage import PATIENCE
from signalled import LIFE

from harness.waiting import eventually

KINDS = ["fairstalk"]
PLUGIN = "signalled"
SLOTS = 1


def lives(worker):
    """Signals of each zygote, in the order in which they began, without those of runners."""
    lines = [json.loads(line) for line in worker.client.lrange("signals", 0, -1)]
    found = {}
    for line in lines:
        if line["signal"] in LIFE and "_process" not in line["signal"]:
            found.setdefault(line["pid"], []).append(line["signal"])
    return list(found.values())


def test_reload_and_kill(worker):
    """The new application is ready before the old one ends; a killed one says nothing, its successor is ready again."""
    begun = ["celeryd_init", "worker_init", "celeryd_after_setup", "worker_ready"]
    ended = ["worker_shutting_down", "worker_shutdown"]
    assert worker.worker.call("reload", "--pid", worker.worker.pid).returncode == 0
    eventually(lambda: lives(worker) == [begun + ended, begun], PATIENCE, lambda: lives(worker))
    (zygote,) = worker.worker.pids("zygote")
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: lives(worker) == [begun + ended, begun, begun], PATIENCE, lambda: lives(worker))
    assert t.add.delay(1, 2).get(timeout=PATIENCE) == 3
    worker.stop()
    assert lives(worker) == [begun + ended, begun, begun + ended]
