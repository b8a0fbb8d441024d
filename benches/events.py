"""What events cost: CPU of a task with and without them, while a monitor listens to everything.

Three events a task, received, started and succeeded, with the fields that Flower shows. The monitor is a `redis-cli` that
throws away what it gets; its CPU time is not counted, that of Redis is.
"""
import subprocess

import drain
from systems import Daemon, Stock

SLOTS = {"processes": 2, "concurrency": 2}


class Listening:
    """A system with somebody who listens to it."""

    def __init__(self, system, key):
        self.system, self.key, self.title = system, key, f"{system.title}, {key.replace('_', ' ')}"
        self.listener = None

    def __getattr__(self, name):
        return getattr(self.system, name)

    def start(self, redis, env, directory):
        """The listener first."""
        command = ["redis-cli", "-s", str(redis.socket), "PSUBSCRIBE", "/0.celeryev/*"]
        self.listener = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        return self.system.start(redis, env, directory)

    def close(self, worker):
        """End both."""
        self.listener.kill()
        self.listener.wait()
        self.system.close(worker)


def systems():
    """Both systems, with and without."""
    stock = Stock()
    stock.options = ("-E",)
    return [
        Listening(Stock(), "celery_off"),
        Listening(stock, "celery_on"),
        Listening(Daemon(workers={**SLOTS, "events": False}), "fairstalk_off"),
        Listening(Daemon(workers={**SLOTS, "events": True}), "fairstalk_on"),
    ]


def measure(app, sizes, say):
    """In turns; medians."""
    from bench.tasks import noop_result

    runs = {}
    for repetition in range(sizes.repeat):
        for system in systems():
            run = drain.one_run(app, system, noop_result, sizes.noop_result)
            runs.setdefault(system.key, []).append(run)
            total = sum(run["cpu_usec"].values())
            say(f"events {repetition + 1}/{sizes.repeat} {system.title}: {run['rate']:.0f} tasks/s, {total:.0f} us")
    return {key: drain.summary(of, sizes.noop_result) for key, of in runs.items()}
