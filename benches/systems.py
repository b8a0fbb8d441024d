"""The two systems under test, and how each is started: with its defaults and four slots, on a Redis of its own.

Both tell a notify socket when they are ready, so that one instrument measures both.
"""
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from harness import PROJECT, ROOT, example_app
from harness.daemon import Fairstalk, base_config, clean_environment, merged
from harness.notify import NotifySocket
from harness.processes import ProcessUnderTest, tree
from harness.redis_server import RedisServer
from harness.waiting import eventually
from messages import warm_up

SLOTS = 4
START_PATIENCE = 60.0


def program():
    """The daemon to measure: FAIRSTALK_BIN, or the release build."""
    return Path(os.environ.get("FAIRSTALK_BIN") or ROOT / "target" / "release" / "fairstalk")


def probe():
    """The benchmarks' own machine code, built like the daemon it stands beside."""
    return program().parent / "examples" / "probe"


class Stock:
    """`celery -A imgbackend worker -c 4`, everything else as by default."""

    key, title = "celery", "Celery"
    options = ()

    def __init__(self, slots=SLOTS):
        self.slots = slots

    def start(self, redis, env, directory):
        """Start it; it is not ready yet."""
        notify = NotifySocket()
        path = os.pathsep.join(filter(None, [str(ROOT / "benches" / "stock"), env.get("PYTHONPATH")]))
        environment = clean_environment(**{**env, "NOTIFY_SOCKET": notify.path, "PYTHONPATH": path})
        command = [*example_app.celery_command(), "worker", "-c", str(self.slots), *self.options, "--include", "bench_ready"]
        worker = ProcessUnderTest(command, directory / "celery.log", environment, PROJECT)
        worker.notify = notify
        return worker

    def close(self, worker):
        """End it."""
        try:
            worker.stop()
        finally:
            worker.clear_away()
            worker.notify.close()

    def kind(self, process, worker):
        """What a process of its tree is for."""
        return "parent" if process.pid == worker.pid else "children"


class StockAtBest(Stock):
    """The same with what is advised against waiting behind others: it takes no more tasks than it has children."""

    key, title = "celery_best", "Celery, prefetch 1"
    options = ("-O", "fair", "--prefetch-multiplier=1")


class Daemon:
    """`fairstalk run` with `processes` x `concurrency` slots, everything else as by default."""

    def __init__(self, processes=2, concurrency=2, **sections):
        self.layout = {"processes": processes, "concurrency": concurrency}
        self.sections = sections
        self.key = "fairstalk" if processes == concurrency else f"fairstalk {processes}x{concurrency}"
        self.title = f"fairstalk {processes}x{concurrency}"

    def start(self, redis, env, directory):
        """Start it; it is not ready yet."""
        config = merged(base_config(redis.url, env), {"workers": self.layout, **self.sections})
        return Fairstalk(directory / "fairstalk", config, program=program())

    def close(self, worker):
        """End it."""
        worker.close()

    def kind(self, process, worker):
        """What a process of its tree is for. All but the supervisor have titles like `fairstalk: worker 1`."""
        if process.pid == worker.pid:
            return "supervisor"
        title = re.match(r"fairstalk: (worker|zygote|runner)", process.cmdline)
        return {"worker": "workers", "zygote": "zygote", "runner": "runners"}[title[1]] if title else "others"


class Stage:
    """One Redis, one data directory, and a system on them."""

    def __init__(self, system, redis, env, directory):
        self.system, self.redis, self.env, self.directory = system, redis, env, directory
        self.client = redis.client()
        self.worker = None
        self.started = None

    def start(self):
        """Start the system under test."""
        self.started = time.monotonic()
        self.worker = self.system.start(self.redis, self.env, self.directory)

    def wait_ready(self):
        """Seconds from the start to readiness, by the time at which the notification came in."""

        def ready():
            if self.worker.popen.poll() is not None:
                raise AssertionError(f"{self.worker.describe()}, before it was ready:\n{self.worker.log()}")
            return next((n.time for n in list(self.worker.notify.received) if n.state.get("READY") == "1"), None)

        at = eventually(ready, START_PATIENCE, lambda: f"{self.system.title} ready:\n{self.worker.log()}")
        return at - self.started

    def start_warm(self, tasks):
        """Start it, and have it run so many tasks."""
        self.start()
        self.wait_ready()
        warm_up(self.client, tasks)

    def kinds(self):
        """Its processes now: pid -> kind."""
        return {process.pid: self.system.kind(process, self.worker) for process in tree(self.worker.pid)}


@contextmanager
def stage(system, app, **environment):
    """A fresh Redis and a fresh directory; `app`, the producer in this process, is connected to them. The system, not the
    producer, has more in its environment."""
    directory = Path(tempfile.mkdtemp(prefix="fairstalk-bench-"))
    with RedisServer() as redis:
        env = example_app.environment(redis, directory)
        example_app.connect(app, env)
        setting = Stage(system, redis, {**env, **environment}, directory)
        try:
            yield setting
        finally:
            if setting.worker is not None:
                system.close(setting.worker)
            setting.client.close()
            example_app.disconnect(app)
            shutil.rmtree(directory, ignore_errors=True)


def layouts():
    """fairstalk as it is compared, and the other ways to cut four slots."""
    return [Daemon(2, 2), Daemon(1, 4), Daemon(4, 1)]
