"""Redis in trouble of every kind: running tasks go on, what ends is settled later, one line says when it began and one
when it ended, and nobody storms it with connections."""
import re
import time

import pytest
from harness.broker import LEASE, stored, wait_settled
from harness.proxy import Proxy
from harness.redis_server import RedisServer
from harness.waiting import eventually

from bench import tasks

PATIENCE = 40

#: Connections one worker may make in an outage of a few seconds: each of its three waits 50 ms, then twice as long each
#: time, then 1.5 s.
CONNECTIONS = 18


@pytest.fixture
def redis():
    """It keeps everything, and may be put to sleep."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes") as server:
        yield server


@pytest.fixture
def proxy(redis):
    """Between the daemon and Redis; producers and tests go straight to Redis."""
    proxy = Proxy(redis.port)
    yield proxy
    proxy.close()


@pytest.fixture
def daemon(fairstalk, app_env, proxy):
    """One worker with two slots, behind the proxy, that gives up on an answer after a second."""
    return fairstalk(
        broker={"url": proxy.url, "timeout": "1s"},
        workers={"processes": 1, "concurrency": 2},
        python={"env": {**app_env, "CELERY_BROKER_URL": proxy.url, "CELERY_RESULT_BACKEND": proxy.url}},
        log={"format": "json"},
    )


def said(daemon, text):
    """Log lines of the worker with this text."""
    return [line["message"] for line in daemon.records() if re.search(text, line["message"])]


def check_told_once(daemon):
    """One line at the beginning, one at the end, with the time between."""
    eventually(lambda: said(daemon, r"^Redis is back after \d+\.\d s$"), PATIENCE, daemon.log)
    assert len(said(daemon, "^Redis lost: .*running tasks go on")) == 1, daemon.log()
    assert len(said(daemon, "Redis is back")) == 1, daemon.log()
    assert not said(daemon, "starts afresh"), daemon.log()


class Under:
    """Tasks before, during and after the trouble."""

    def __init__(self, ledger):
        self.ledger = ledger
        self.running = [tasks.record.delay(1, n, str(ledger), seconds=1.5) for n in range(2)]
        self.waiting = [tasks.record.delay(1, n, str(ledger)) for n in range(2, 8)]
        ledger.wait("start", 2)

    def check(self, client):
        """Everything has run, once, and its results are there."""
        self.ledger.wait("end", 8, PATIENCE)
        wait_settled(client)
        assert [stored(client, task.id)["result"] for task in self.running + self.waiting] == list(range(8))
        assert all(len(pids) == 1 for pids in self.ledger.runs().values())


@pytest.fixture
def under(celery_app, daemon, ledger):
    """Two tasks run, six wait."""
    return Under(ledger)


def test_a_connection_is_reset(under, daemon, proxy, client):
    """Each connection is opened once more, and nothing else is noticed."""
    before = proxy.count
    proxy.cut()
    under.check(client)
    check_told_once(daemon)
    assert proxy.count - before <= 3  # one for steps, one for remote control, one for events


def test_a_server_that_is_restarted(under, daemon, proxy, redis, client):
    """It comes back with its data."""
    before = proxy.count
    redis.stop()
    under.ledger.wait("end", 2)
    redis.start()
    under.check(client)
    check_told_once(daemon)
    assert proxy.count - before <= CONNECTIONS


def test_a_server_that_is_away_for_longer_than_a_lease(celery_app, fairstalk, redis, client, ledger):
    """All leases are over when it is back. Who comes back first takes nobody for dead who is about to return."""
    count = 8
    daemon = fairstalk(workers={"processes": count, "concurrency": 1}, log={"format": "json"})
    for n in range(count):
        tasks.record.delay(n, n, str(ledger), seconds=LEASE + 8)
    ledger.wait("start", count)
    redis.stop()
    time.sleep(LEASE + 1)  # how long is the question
    redis.start()
    eventually(lambda: len(said(daemon, "^Redis is back")) == count, PATIENCE, daemon.log)
    ledger.wait("end", count, PATIENCE)
    wait_settled(client)
    assert not said(daemon, "its worker died"), daemon.log()
    assert all(len(pids) == 1 for pids in ledger.runs().values())


@pytest.mark.parametrize("command", ["CLIENT PAUSE 3000 ALL", "DEBUG SLEEP 3"])
def test_a_server_that_stands_still(under, daemon, proxy, redis, client, command):
    """No answer for longer than the worker waits for one; what it asked meanwhile is done late, and does no harm."""
    before = proxy.count
    with redis.client(socket_timeout=30) as sleeper:
        sleeper.execute_command(*command.split())
    under.check(client)
    check_told_once(daemon)
    assert proxy.count - before <= CONNECTIONS


def test_a_server_that_has_become_a_replica(under, daemon, proxy, client):
    """READONLY after a failover: waited out, with the settlements, until it takes writes again."""
    before = proxy.count
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    under.ledger.wait("end", 2)
    eventually(lambda: said(daemon, "Redis lost.*read only replica"), PATIENCE, daemon.log)
    eventually(lambda: proxy.count - before >= 3)
    client.execute_command("REPLICAOF", "NO", "ONE")
    under.check(client)
    check_told_once(daemon)
    assert proxy.count - before <= CONNECTIONS


def test_a_server_without_memory(under, daemon, proxy, client):
    """Results can't be stored: they wait, and are there when there is memory again."""
    before = proxy.count
    client.config_set("maxmemory", 1)
    under.ledger.wait("end", 2)
    eventually(lambda: said(daemon, "Redis lost.*(OOM|maxmemory)"), PATIENCE, daemon.log)
    eventually(lambda: proxy.count - before >= 4)
    client.config_set("maxmemory", 0)
    under.check(client)
    check_told_once(daemon)
    assert proxy.count - before <= CONNECTIONS


def test_a_start_that_cannot_be_noted(celery_app, fairstalk, proxy, client, ledger):
    """Delivered at most once: without memory a task can be claimed, but not noted. It waits, and so does the worker."""
    daemon = fairstalk(
        broker={"url": proxy.url, "timeout": "1s"},
        workers={"processes": 1, "concurrency": 2},
        delivery={"mode": "at-most-once"},
        log={"format": "json"},
    )
    for n in range(8):
        tasks.record.apply_async((1, n, str(ledger), 0 if n > 1 else 1.5), ignore_result=True)
    ledger.wait("start", 2)
    before = proxy.count
    client.config_set("maxmemory", 1)
    ledger.wait("end", 2)
    eventually(lambda: said(daemon, "Redis lost.*(OOM|maxmemory)"), PATIENCE, daemon.log)
    eventually(lambda: proxy.count - before >= 4)
    assert len(ledger.lines("start")) == 2
    client.config_set("maxmemory", 0)
    ledger.wait("end", 8, PATIENCE)
    wait_settled(client)
    assert all(len(pids) == 1 for pids in ledger.runs().values())
    assert daemon.dead_letters() == []
    check_told_once(daemon)
    assert proxy.count - before <= CONNECTIONS


def test_scripts_that_are_forgotten(under, daemon, proxy, client):
    """SCRIPT FLUSH is no trouble at all."""
    before = proxy.count
    client.script_flush()
    under.check(client)
    assert not said(daemon, "Redis lost")
    assert proxy.count == before


def test_a_slow_network(under, daemon, proxy, client):
    """Each way takes a fifth of a second: slower, and nothing else."""
    before = proxy.count
    proxy.delay = 0.2
    under.check(client)
    assert not said(daemon, "Redis lost")
    assert proxy.count == before


@pytest.mark.parametrize("way", ["request", "reply"])
def test_a_connection_is_cut_in_the_middle_of_an_exchange(celery_app, daemon, proxy, client, ledger, way):
    """After so many bytes of whatever is said then, again and again: every task runs, and once."""
    sent = []
    for size in (0, 1, 40, 200, 500, 900, 1500, 2500):
        proxy.fuse = (way, size)
        sent += [tasks.record.delay(1, n, str(ledger)) for n in range(4)]
        eventually(lambda: proxy.fuse is None, PATIENCE)
        ledger.wait("end", len(sent), PATIENCE)
    wait_settled(client)
    assert len(ledger.lines("end")) == len(sent)
    assert all(stored(client, task.id) for task in sent)
    assert daemon.stop() == 0
    assert client.keys("fairstalk:*") == []


@pytest.mark.parametrize("retry", [True, False], ids=["waits", "gives up"])
def test_a_retry_while_redis_is_away(celery_app, redis, fairstalk, app_env, ledger, client, tmp_path, retry):
    """Under Celery the message would be dropped: it can't be sent, and the one that asks for it is rejected."""
    app = tmp_path / "stubborn.py"
    app.write_text(
        f"from imgbackend.celery import app\napp.conf.task_publish_retry = {retry}\n"
        "from bench.tasks import append_line\n"
        "@app.task(bind=True, name='stubborn')\n"
        "def stubborn(self, path, gate):\n"
        "    import os, time\n"
        "    append_line(path, event='start', task=self.request.id, retries=self.request.retries)\n"
        "    if self.request.retries == 0:\n"
        "        while not os.path.exists(gate): time.sleep(0.01)\n"
        "        append_line(path, event='asks', task=self.request.id)\n"
        "        raise self.retry(countdown=0)\n"
        "    append_line(path, event='end', task=self.request.id)\n"
        "    return 'there'\n"
    )
    daemon = fairstalk(python={"app": "stubborn", "env": {**app_env, "PYTHONPATH": str(tmp_path)}})
    gate = tmp_path / "gate"
    task = celery_app.send_task("stubborn", (str(ledger), str(gate)), queue="queue_0")
    ledger.wait("start", 1)
    redis.stop()
    gate.touch()
    ledger.wait("asks", 1)
    if not retry:
        daemon.wait_log("requeued: OperationalError")
    redis.start()
    assert eventually(lambda: stored(client, task.id), PATIENCE)
    eventually(lambda: stored(client, task.id)["result"] == "there", PATIENCE, daemon.log)
    assert len(ledger.lines("start")) == (2 if retry else 3)
    wait_settled(client)


def test_a_retry_that_fails_by_a_mistake(celery_app, fairstalk, app_env, ledger, tmp_path):
    """An AttributeError that is the application's own will come again however often it is tried: a dead letter."""
    app = tmp_path / "mistaken.py"
    app.write_text(
        "from celery import Task\nfrom imgbackend.celery import app\nfrom bench.tasks import append_line\n"
        "class Base(Task):\n"
        "    def apply_async(self, *args, **options): return self.request.tenant.name\n"
        "@app.task(bind=True, base=Base, name='mistaken')\n"
        "def mistaken(self, path):\n"
        "    append_line(path, event='start', task=self.request.id)\n"
        "    raise self.retry(countdown=0)\n"
    )
    env = {**app_env, "PYTHONPATH": str(tmp_path)}
    daemon = fairstalk(python={"app": "mistaken", "env": env}, delivery={"keep_failed": True})
    celery_app.send_task("mistaken", (str(ledger),), queue="queue_0")
    eventually(lambda: [letter["reason"] for letter in daemon.dead_letters()] == ["rejected"], PATIENCE, daemon.log)
    assert len(ledger.lines("start")) == 1
