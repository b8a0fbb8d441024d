"""Ways to strike: KILL, or STOP and CONT after a while, at any process of a daemon, at all of it, and at Redis."""
import os
import signal
import threading
import time

from .verdict import Blow

#: A stop lasts so long at most, seconds. Less than a lease (7 s), also for one who had spoken a beat ago: a process that
#: is stopped for longer while its host goes on is declared dead by the daemons of other hosts, and lives (docs/reliability.md).
STOP_MAX = 3.0

#: Redis is away for so long at most.
AWAY_MAX = 1.0

VICTIMS = ("runner", "zygote", "worker", "supervisor", "tree", "redis")
KILL_WEIGHTS = (8, 2, 5, 1, 1, 2)

#: Beside stock workers Redis is left alone: after a lost connection they run again what they are running already
#: (`celery/worker/consumer/consumer.py`, `on_close`), which is their own twin and hides ours.
MIXED_WEIGHTS = (4, 1, 3, 1, 1, 0, 8)
STOP_WEIGHTS = (4, 1, 3, 1, 1, 2)


class Blows:
    """Strikes at a stage, and remembers at whom and when."""

    def __init__(self, stage, random):
        self.stage = stage
        self.random = random
        self.struck = []
        self._timers = []

    def strike(self):
        """One blow. None if the victim was not to be found: it is just being started again."""
        if self.random.random() < 0.75:
            mixed = self.stage.stock
            victims, weights = (VICTIMS + ("stock",), MIXED_WEIGHTS) if mixed else (VICTIMS, KILL_WEIGHTS)
            (victim,) = self.random.choices(victims, weights)
            return self._kill(victim)
        last = -1 if self.stage.stock else None
        (victim,) = self.random.choices(VICTIMS[:last], STOP_WEIGHTS[:last])
        return self._stop(victim, self.random.uniform(0.02, STOP_MAX))

    def _targets(self, victim, daemon):
        """Pids to signal, and the node if it is one worker's."""
        if victim == "supervisor":
            return [daemon.pid], None
        if victim == "tree":
            return [process.pid for process in daemon.left()], None
        if victim == "zygote":
            return daemon.pids("zygote"), None
        found = [process for process in daemon.left() if process.cmdline.startswith(f"fairstalk: {victim} ")]
        if not found:
            return [], None
        chosen = self.random.choice(sorted(found))
        return [chosen.pid], chosen.cmdline.rpartition(" ")[2]

    def _remember(self, what, victim, name, pids, node, start, until):
        if victim == "worker":
            node = f"worker{node}-{name}@{os.uname().nodename}"
        blow = Blow(f"{what} {victim}", start, until, name, node, pids[0] if victim == "runner" else None)
        self.struck.append(blow)
        return blow

    def _kill(self, victim):
        if victim == "redis":
            return self._kill_redis()
        if victim == "stock":
            return self._kill_stock()
        name = self.random.choice(sorted(self.stage.daemons))
        pids, node = self._targets(victim, self.stage.daemons[name])
        if not pids:
            return None
        start = time.monotonic()
        send(pids, signal.SIGKILL)
        blow = self._remember("KILL", victim, name, pids, node, start, time.monotonic())
        if victim in ("supervisor", "tree"):
            self.stage.bury(name)
        return blow

    def _kill_stock(self):
        name, start = self.random.choice(sorted(self.stage.stock)), time.monotonic()
        self.stage.replace_stock(name)
        self.struck.append(Blow("KILL stock", start, time.monotonic(), name))
        return self.struck[-1]

    def _kill_redis(self):
        start = time.monotonic()
        self.stage.redis.stop()
        time.sleep(self.random.uniform(0, AWAY_MAX))
        self.stage.redis.start()
        blow = Blow("KILL redis", start, time.monotonic())
        self.struck.append(blow)
        return blow

    def _stop(self, victim, seconds):
        if victim == "redis":
            start, process = time.monotonic(), self.stage.redis.process
            process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            process.send_signal(signal.SIGCONT)
            self.struck.append(Blow("STOP redis", start, time.monotonic()))
            return self.struck[-1]
        name = self.random.choice(sorted(self.stage.daemons))
        pids, node = self._targets(victim, self.stage.daemons[name])
        if not pids:
            return None
        start = time.monotonic()
        send(pids, signal.SIGSTOP)
        timer = threading.Timer(seconds, send, (pids, signal.SIGCONT))
        timer.start()
        self._timers.append(timer)
        return self._remember("STOP", victim, name, pids, node, start, time.monotonic() + seconds)

    def settle_down(self):
        """Nobody is stopped any more."""
        for timer in self._timers:
            timer.join()


def send(pids, number):
    """A signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
