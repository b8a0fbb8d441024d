"""`fairstalk hand-back` that is killed or cut off at any point, and called again: nothing lost, nothing twice, all in order."""
import os
import random
import signal
import subprocess

import pytest
from harness.broker import call_of, message, waiting
from harness.daemon import binary
from harness.proxy import Proxy
from harness.waiting import eventually

#: They share two queues between them.
QUEUE_OF = {1: "queue_11", 47: "queue_11", 75: "queue_11", 7: "queue_15", 3: "queue_15"}
EACH = 900
UNSEEN = 5
DELAYED = 20
SLOTS = 24
#: In one trial, at most, before it may come to its end.
BLOWS = 4


def task(user, n, **headers):
    """A message for the command task."""
    return message("nap", (), {"user_id": user, "n": n}, queue=QUEUE_OF[user], headers=headers)


@pytest.fixture
def crashed(fairstalk, client):
    """A daemon that was killed with claims, lanes of several users, delayed messages, and some that nobody had seen."""
    daemon = fairstalk(
        python=None,
        workers={"concurrency": SLOTS // 2},
        tenancy={"parameter": "user_id"},
        tasks={"nap": {"command": ["sleep", "300"]}},
    )
    later = "2999-01-01T00:00:00+00:00"
    client.lpush("queue_0", *(message("nap", (), {"n": n}, headers={"eta": later}) for n in range(DELAYED)))
    eventually(lambda: client.zcard("fairstalk:delayed") == DELAYED, 60)
    for n in range(EACH):
        for user in QUEUE_OF:
            client.lpush(QUEUE_OF[user], task(user, n))  # one by one: the claims of both workers take turns
    eventually(lambda: client.hlen("unacked") == SLOTS and not client.exists(*set(QUEUE_OF.values()), "queue_0"), 60)
    daemon.clear_away()
    for n in range(EACH, EACH + UNSEEN):
        for user in QUEUE_OF:
            client.lpush(QUEUE_OF[user], task(user, n))
    client.zadd("fairstalk:owners", {owner: 1000 for owner in client.zrange("fairstalk:owners", 0, -1)})  # leases are over
    return daemon


class Trial:
    """The same state again and again, and calls of hand-back by way of a proxy."""

    def __init__(self, daemon, client, proxy):
        self.daemon, self.client, self.proxy = daemon, client, proxy
        self.state = {key: client.dump(key) for key in client.keys("*")}

    def begin(self):
        """Redis is as it was after the crash."""
        self.client.flushall()
        for key, value in self.state.items():
            self.client.restore(key, 0, value)
        self.proxy.pieces, self.proxy.passed = 0, {"request": 0, "reply": 0}

    def start(self):
        """hand-back, under way."""
        env = {**self.daemon.env, "FAIRSTALK_BROKER__URL": self.proxy.url}
        command = [binary(), "hand-back", "--config", self.daemon.config_file]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self):
        """A last one, which comes to its end, and a look at everything."""
        last = self.start()
        said = last.communicate(timeout=60)
        assert last.returncode == 0, said
        client = self.client
        assert client.keys("fairstalk:*") == [] and client.keys("unacked*") == []
        for queue in set(QUEUE_OF.values()):
            found = waiting(client, queue)
            for user in (user for user in QUEUE_OF if QUEUE_OF[user] == queue):
                numbers = [kwargs["n"] for _, kwargs in map(call_of, found) if kwargs["user_id"] == user]
                assert numbers == list(range(EACH + UNSEEN)), f"user {user}, in order, each once"
        everything = [one for queue in [*set(QUEUE_OF.values()), "queue_0"] for one in waiting(client, queue)]
        assert len(everything) == len({one["headers"]["id"] for one in everything})
        assert sum("eta" in one["headers"] for one in waiting(client, "queue_0")) == DELAYED
        again = [one for one in everything if one["headers"].get("redelivered")]
        assert len(again) == SLOTS
        assert {one["properties"]["delivery_info"]["deliveries"] for one in again} == {1}, "counted once"


@pytest.fixture
def trial(crashed, client, redis):
    """Ready to begin."""
    proxy = Proxy(redis.port)
    yield Trial(crashed, client, proxy)
    proxy.close()


def test_killed_and_cut_off_at_random(trial):
    """A SIGKILL after so many pieces have passed, a cut after so many bytes; several times, then once to the end."""
    seed = int(os.environ.get("FAIRSTALK_SEED") or random.randrange(2**32))
    print(f"again: FAIRSTALK_SEED={seed}")
    dice = random.Random(seed)
    trial.begin()
    trial.finish()
    pieces, passed = trial.proxy.pieces, dict(trial.proxy.passed)
    struck = 0
    for kind in ["KILL", "request", "reply"] * 5:
        trial.begin()
        for _ in range(dice.randint(1, BLOWS)):
            struck += kill(trial, dice.randint(1, pieces)) if kind == "KILL" else cut(trial, kind, dice.randrange(passed[kind]))
        trial.finish()
    assert struck >= 15, f"only {struck} of all calls were struck before their end"


def kill(trial, after):
    """Whether SIGKILL came before its end."""
    proxy = trial.proxy
    proxy.delay, before = 0.01, proxy.pieces
    one = trial.start()
    eventually(lambda: proxy.pieces - before >= after or one.poll() is not None, 60)
    one.kill()
    said = one.communicate()
    proxy.delay = 0
    assert one.returncode in (0, -signal.SIGKILL), said
    return one.returncode != 0


def cut(trial, way, size):
    """Whether the connection was cut before its end."""
    trial.proxy.fuse = (way, size)
    one = trial.start()
    said = one.communicate(timeout=60)
    cut = trial.proxy.fuse is None
    trial.proxy.fuse = None
    assert one.returncode == 0 or cut, said
    return cut
