"""`fairstalk dead`: what is listed, shown, put back and dropped, also when the command is killed in the middle."""
import json
import random
import subprocess
import time

import pytest
from harness.broker import message
from harness.daemon import binary, clean_environment, toml

NOOP = "bench.tasks.noop"
#: Milliseconds since 1970 in the fixture's letters begin here, a minute before the test.
MINUTE = 60_000


class Commands:
    """`fairstalk dead …` on a Redis where no daemon runs, and letters laid there by hand."""

    def __init__(self, directory, redis, client):
        self.client = client
        self.config = directory / "fairstalk.toml"
        self.config.write_text(toml({"broker": {"url": redis.url}, "queues": {"prefix": "queue_", "count": 4}}))
        self.now = int(client.time()[0]) * 1000
        self.raws = {}

    def command(self, *arguments):
        return [binary(), "dead", *map(str, arguments), "--config", self.config]

    def call(self, *arguments, code=0):
        done = subprocess.run(self.command(*arguments), env=clean_environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def ask(self, *arguments):
        return [json.loads(line) for line in self.call(*arguments, "--json").stdout.splitlines()]

    def ids(self, *arguments):
        """Task ids of what is listed."""
        return [letter["entry"]["id"] for letter in self.ask("list", *arguments)]

    def bury(self, number, raw=None, age=MINUTE, **entry):
        """Lay one letter; its task's id is `task-NUMBER`, its name `o:NUMBER`."""
        name, queue = f"o:{number}", entry.setdefault("queue", f"queue_{number % 4}")
        task_id, task = f"task-{number}", entry.setdefault("task", NOOP)
        raw = message(task, [number], queue=queue, headers={"id": task_id}) if raw is None else raw
        entry = {"reason": "unknown-task", "detail": "because", "id": task_id, "at": self.now - age, **entry}
        pipe = self.client.pipeline()
        pipe.hset("fairstalk:dead:messages", name, raw).hset("fairstalk:dead:entries", name, json.dumps(entry))
        pipe.zadd("fairstalk:dead", {name: self.now - age}).execute()
        self.raws[number] = raw
        return raw

    def left(self):
        """Messages still dead, whole: the three keys agree."""
        names = self.client.zrange("fairstalk:dead", 0, -1)
        messages = self.client.hgetall("fairstalk:dead:messages")
        assert set(names) == set(messages) == set(self.client.hkeys("fairstalk:dead:entries"))
        return list(messages.values())


@pytest.fixture
def dead(tmp_path, redis, client):
    return Commands(tmp_path, redis, client)


def test_filters(dead):
    """Each of them, two at once, and the limit; the newest first."""
    dead.bury(0, age=9 * MINUTE, tenant="7", reason="runner-lost")
    dead.bury(1, age=6 * MINUTE, tenant="7")
    dead.bury(2, age=3 * MINUTE, tenant="-8", task="other.task")
    dead.bury(3, age=0, queue="queue_0")
    assert dead.ids() == ["task-3", "task-2", "task-1", "task-0"]
    assert dead.ids("--limit", 2) == ["task-3", "task-2"]
    assert dead.ids("--task", "other.task") == ["task-2"]
    assert dead.ids("--tenant", 7) == ["task-1", "task-0"]
    assert dead.ids("--tenant", "-8") == ["task-2"]
    assert dead.ids("--queue", "queue_0") == ["task-3", "task-0"]
    assert dead.ids("--reason", "runner-lost") == ["task-0"]
    assert dead.ids("--older-than", "5m") == ["task-1", "task-0"]
    assert dead.ids("--newer-than", "5m") == ["task-3", "task-2"]
    assert dead.ids("--older-than", "2m", "--newer-than", "8m") == ["task-2", "task-1"]
    assert dead.ids("--tenant", 7, "--queue", "queue_1") == ["task-1"]
    assert dead.ids("--tenant", 9) == []
    assert dead.call("list", "--tenant", 9).stdout == "no dead letters\n"
    assert "possible values" in dead.call("list", "--reason", "bad-luck", code=64).stderr


def test_counts(dead):
    """How many of each queue, tenant, task and reason, over more than one page."""
    for number in range(250):
        dead.bury(number, tenant=None if number < 10 else str(number % 3))
    assert {row["queue"]: row["count"] for row in dead.ask("list", "--count", "queue")} == {
        "queue_0": 63, "queue_1": 63, "queue_2": 62, "queue_3": 62,
    }
    assert {row["tenant"]: row["count"] for row in dead.ask("list", "--count", "tenant")} == {
        None: 10, "0": 80, "1": 80, "2": 80,
    }
    assert dead.ask("list", "--count", "reason", "--queue", "queue_1") == [{"reason": "unknown-task", "count": 63}]
    assert dead.call("list", "--count", "task").stdout.split() == ["250", NOOP]
    assert len(dead.ids()) == 100


def test_show(dead):
    """All that is known of it, in words and as JSON."""
    raw = dead.bury(
        5, reason="runner-lost", detail="killed it", tenant="7", signal="9 (SIGKILL)", memory_peak=123456789,
        output=["first line", "last line"], traceback="Traceback …\nValueError", attempt=2, deliveries=3, node="worker1@h",
    )
    words = dead.call("show", "task-5").stdout
    for text in (
        "runner-lost: its runner or worker died", "killed it", "9 (SIGKILL)", "123456789 bytes", "    last line",
        "    ValueError", "[5]", '"task": "bench.tasks.noop"', "worker1@h", "o:5",
    ):
        assert text in words, words
    (shown,) = dead.ask("show", "o:5")
    assert shown["message"].encode() == raw
    assert (shown["args"], shown["kwargs"], shown["headers"]["id"]) == ([5], {}, "task-5")
    assert shown["entry"]["output"] == ["first line", "last line"]
    assert "no dead letter task-6" in dead.call("show", "task-6", code=64).stderr
    dead.bury(7, raw=b"\xff no JSON")
    assert "no JSON" in dead.call("show", "task-7").stdout
    assert "args" not in dead.ask("show", "task-7")[0]


def test_replay_puts_back_the_bytes_that_came(dead, client):
    """To the end of its own list, behind what waits there; only what counts retries and deliveries begins anew."""
    waiting = message(NOOP, queue="queue_1")
    client.lpush("queue_1", waiting)
    compact = json.dumps(json.loads(message(NOOP, [1.50], queue="queue_1")), separators=(",", ":")).encode()
    dead.bury(1, raw=compact)
    dead.bury(2, raw=message(NOOP, queue="queue_2", properties={"priority": 7}))
    dead.bury(3, raw=b"\xff no JSON")
    used = message(NOOP, queue="queue_0", headers={"retries": 3, "redelivered": True, "x": 1})
    dead.bury(4, raw=used.replace(b'"routing_key": "queue_0"', b'"routing_key": "queue_0", "deliveries": 3'), reason="runner-lost")
    dead.bury(5, raw=message(NOOP, queue="old"), queue="old")
    dry = dead.call("replay", "--all", "--dry-run").stdout
    assert "5 would be put back" in dry and "queue_1\n" in dry and "old  ([queues] does not name it" in dry
    assert len(dead.left()) == 5
    done = dead.call("replay", "--all").stdout
    assert done.endswith("5 put back\n")
    assert dead.left() == []
    assert client.lrange("queue_1", 0, -1) == [compact, waiting]
    assert client.lrange("queue_2\x06\x166", 0, -1) == [dead.raws[2]]
    assert client.lrange("queue_3", 0, -1) == [b"\xff no JSON"]
    (again,) = map(json.loads, client.lrange("queue_0", 0, -1))
    before = json.loads(dead.raws[4])
    assert again["properties"]["delivery_info"] == {
        "exchange": "", "routing_key": "queue_0", "deliveries": 0, "redelivered": True,
    }
    again["properties"]["delivery_info"] = before["properties"]["delivery_info"]
    assert again == before | {"headers": before["headers"] | {"retries": 0}}
    assert client.llen("old") == 1


def test_what_is_chosen(dead):
    """Ids, names, filters and limits; nothing without a choice; what is not there is said."""
    for number in range(6):
        dead.bury(number, age=(10 - number) * MINUTE)
    assert "required" in dead.call("replay", code=64).stderr
    assert "required" in dead.call("drop", "--limit", 3, code=64).stderr
    assert len(dead.left()) == 6
    assert dead.ask("drop", "task-0", "o:1") == [
        {"action": "drop", "dry_run": False, "matched": 2, "done": 2, "queues": {"queue_0": 1, "queue_1": 1}}
    ]
    assert dead.ask("drop", "--older-than", "1m", "--limit", 1, "--dry-run")[0]["matched"] == 1
    assert dead.ask("replay", "--older-than", "1m", "--limit", 1)[0]["done"] == 1
    assert sorted(dead.ids()) == ["task-3", "task-4", "task-5"], "the oldest went first"
    assert "no dead letter task-2" in dead.call("replay", "task-2", code=64).stderr
    assert "no dead letter task-3" in dead.call("drop", "task-3", "--queue", "queue_0", code=64).stderr
    assert dead.call("drop", "--queue", "queue_0").stdout.splitlines() == [
        "1 to be dropped for good", "        1  queue_0", "1 dropped",
    ]
    assert sorted(dead.ids()) == ["task-3", "task-5"]


@pytest.mark.parametrize("deed", ["replay", "drop"])
def test_killed_in_the_middle(dead, client, deed):
    """Killed at random instants and begun again: each message is put back once, or dropped, and none is ever nowhere."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    count, killed, halves = 4000, 0, 0
    for number in range(count):
        dead.bury(number, queue="queue_1")
    everything = sorted(dead.raws.values())
    started = time.monotonic()
    dead.call(deed, "--all", "--dry-run")
    once = time.monotonic() - started
    for _ in range(200):
        process = subprocess.Popen(dead.command(deed, "--all", "--json"), env=clean_environment(), stdout=subprocess.PIPE)
        try:
            process.wait(rng.uniform(0.2, 1.5) * once)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.communicate()
        left, put_back = dead.left(), client.lrange("queue_1", 0, -1)
        assert len(put_back) == len(set(put_back))
        halves += 0 < len(left) < count
        if deed == "replay":
            assert sorted(left + put_back) == everything, f"seed {seed}"
        else:
            assert put_back == [] and set(left) <= set(everything)
        if not left:
            break
    print(f"{killed} killed, {halves} times in the middle")
    assert killed > 0 and dead.left() == []
    if deed == "replay":
        assert client.lrange("queue_1", 0, -1)[::-1] == [dead.raws[n] for n in sorted(dead.raws, key=lambda n: f"o:{n}")]
