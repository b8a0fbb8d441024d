"""What is struck at: a Redis that keeps everything, daemons that are started again as systemd would, and the ledger."""
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from redis.exceptions import RedisError

from harness.daemon import Fairstalk
from harness.processes import ProcessUnderTest
from harness.redis_server import RedisServer
from harness.waiting import eventually

from . import application

#: Nothing that is acknowledged is lost with the process, nor with its host.
KEEP_EVERYTHING = ("--appendonly", "yes", "--appendfsync", "always")

#: Slots of one worker; a daemon has two workers.
SLOTS = 2


class Tail:
    """The ledger, read on as it grows."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.touch()
        self.lines = []
        self.ended = set()
        #: How many of each user.
        self.ended_by = Counter()
        self._offset = 0

    def read(self):
        """All lines so far."""
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._offset += len(new)
        for text in new.splitlines():
            line = json.loads(text)
            self.lines.append(line)
            if line["event"] == "end" and line["task"] not in self.ended:
                self.ended.add(line["task"])
                self.ended_by[line["user"]] += 1
        return self.lines


class Stage:
    """Servers and daemons, called `a`, `b`…; they and everything they started end with it."""

    def __init__(self, directory, daemons, stock=0):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.redis = RedisServer(*KEEP_EVERYTHING).start()
        self.ledger = Tail(self.directory / "ledger")
        self.env = {"CHAOS_BROKER": self.redis.url, "CHAOS_LEDGER": str(self.ledger.path)}
        os.environ.update(self.env)
        application.app.conf.update(broker_url=self.redis.url, result_backend="disabled")  # here nobody waits for results
        self.daemons = {}
        self.buried = []
        for name in "abcdefgh"[:daemons]:
            self.start(name)
        #: Stock workers, `stock0`…: the mixed fleet.
        self.stock = {f"stock{number}": self.stock_worker(f"stock{number}") for number in range(stock)}

    def config(self, name):
        """One that is quick to come back, and never gives up on a task because too much was killed."""
        return {
            "broker": {"url": self.redis.url, "timeout": "1s", "visibility_timeout": f"{application.VISIBILITY}s"},
            "queues": {"names": application.QUEUES},
            "workers": {"processes": 2, "concurrency": SLOTS, "name": f"worker%i-{name}@%h", "liveness_timeout": "5s",
                        "restart_min": "20ms", "restart_max": "500ms", "claim_ahead": "50ms"},
            "python": {"app": "chaos.application", "directory": Path(__file__).parents[1], "interpreter": sys.executable,
                       "env": self.env},
            "tenancy": {"parameter": "user_id"},
            "delivery": {"max_deliveries": 1000},
        }

    def start(self, name):
        """Start a daemon, or its successor."""
        self.daemons[name] = Fairstalk(self.directory / name, self.config(name))

    def bury(self, name):
        """A daemon's supervisor is dead: take another one. Whether everything went with the old one is seen later."""
        old = self.daemons[name]
        old.popen.wait()
        old.notify.close()
        self.buried.append(old)
        self.start(name)

    def replace_stock(self, name):
        """Kill a stock worker and its children, and start its successor."""
        self.stock[name].clear_away()
        self.stock[name] = self.stock_worker(name)

    def left_behind(self):
        """Processes that outlived their supervisor."""
        return [process for daemon in self.buried for process in daemon.left()]

    def stop(self):
        """All daemons at once, politely; their exit codes."""
        for daemon in self.daemons.values():
            daemon.signal(signal.SIGTERM)
        return [daemon.wait(timeout=90) for daemon in self.daemons.values()]

    def leftovers(self):
        """What is in Redis apart from results and bindings, and from the lock of a stock worker that was killed while it
        restored something: that expires by itself.
        """
        with self.redis.client() as client:
            keys = [key.decode() for key in client.keys("*")]
            if self.stock and client.pttl("unacked_mutex") > 0:
                keys.remove("unacked_mutex")
        return sorted(key for key in keys if not key.startswith(("celery-task-meta-", "_kombu.binding")))

    def ahead(self):
        """How many messages workers have claimed beyond what their slots run: for these there is no slot yet, or the end
        of a short task has not been told."""
        try:
            with self.redis.client() as client:
                owners = client.zrange("fairstalk:owners", 0, -1)
                held = [client.hlen(b"fairstalk:claims:" + owner) for owner in owners]
        except RedisError:  # it has just been struck
            return 0
        return sum(max(0, count - 1 - SLOTS) for count in held)  # one field is the lease

    def results(self, ids):
        """What is stored of these tasks, in their order."""
        keys = [f"celery-task-meta-{task}" for task in ids]
        with self.redis.client() as client:
            return [text or b"" for at in range(0, len(keys), 1000) for text in client.mget(keys[at : at + 1000])]

    def stock_worker(self, name="stock"):
        """A stock Celery worker on the same queues."""
        command = [sys.executable, "-m", "celery", "-A", "chaos.application", "worker", "-c", "2", "--loglevel", "INFO"]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        command += ["-n", f"{name}@%h", "--without-mingle", "--without-gossip"]
        return ProcessUnderTest(command, self.directory / f"{name}.log", env, self.directory)

    def close(self):
        """Leave nothing behind."""
        for daemon in [*self.daemons.values(), *self.buried]:
            daemon.clear_away()
        for worker in self.stock.values():
            worker.clear_away()
        for daemon in self.daemons.values():
            daemon.notify.close()
        self.redis.__exit__()

    def wait_quiet(self, finished, patience):
        """Wait until `finished()`; give up when nothing has been written for so many seconds."""
        seen, since = -1, time.monotonic()

        def done():
            nonlocal seen, since
            count = len(self.ledger.read())
            if count != seen:
                seen, since = count, time.monotonic()
            return finished() or time.monotonic() - since > patience

        eventually(done, timeout=1e6)
