"""Redis comes back without its data, or with older ones: running tasks go on where nobody else can have them."""
import os
import signal
import time

import pytest
from harness.broker import LEASE, stored, wait_settled
from harness.waiting import eventually

from bench import tasks

PATIENCE = 40
LOST = "Redis has lost its data"


#: One worker with two slots, straight at Redis.
CONFIG = {
    "broker": {"timeout": "1s"},
    "workers": {"processes": 1, "concurrency": 2, "liveness_timeout": "60s"},
    "log": {"format": "json"},
}


@pytest.fixture
def daemon(fairstalk):
    """It is ready."""
    return fairstalk(**CONFIG)


def said(daemon, text):
    """Log lines with this text."""
    return [line["message"] for line in daemon.records() if text in line["message"]]


def claims(client):
    """What kombu's books and fairstalk's say is under way."""
    held = [key for owner in client.keys("fairstalk:claims:*") for key in client.hkeys(owner) if key != b"lease"]
    return client.hlen("unacked"), client.zcard("unacked_index"), len(held)


def run_through(daemon, client, ledger, lose):
    """Two tasks run and two wait when `lose` is called; afterwards just the two that ran have ended, and a new one."""
    running = [tasks.record.delay(1, n, str(ledger), seconds=5) for n in range(2)]
    for n in range(2, 4):
        tasks.record.delay(1, n, str(ledger))
    ledger.wait("start", 2)
    (worker,) = daemon.pids("worker 1")
    lose()
    eventually(lambda: said(daemon, LOST), PATIENCE, daemon.log)
    running.append(tasks.record.delay(1, 9, str(ledger)))
    ledger.wait("end", 3, PATIENCE)
    wait_settled(client)
    assert sorted(ledger.numbers("end")) == [0, 1, 9]
    assert all(len(pids) == 1 for pids in ledger.runs().values()), "each ran once"
    assert [stored(client, task.id)["result"] for task in running] == [0, 1, 9]
    assert daemon.pids("worker 1") == [worker]
    assert len(said(daemon, LOST)) == 1 and not said(daemon, "starts afresh"), daemon.log()
    assert daemon.stop() == 0
    assert client.keys("fairstalk:*") == []


def test_everything_is_deleted(celery_app, daemon, client, ledger):
    """FLUSHALL under a running server: nobody can have the running tasks but who runs them."""

    def flush():
        client.flushall()
        eventually(lambda: claims(client) == (2, 2, 2), what=lambda: f"{claims(client)}: what runs is claimed again")

    run_through(daemon, client, ledger, flush)


@pytest.mark.parametrize("away", [0, LEASE + 2], ids=["at once", "after a while"])
def test_a_restart_without_persistence(celery_app, daemon, redis, client, ledger, away):
    """Also when it is away for longer than a lease, and tasks end meanwhile: their results are kept, and stored."""

    def restart():
        redis.stop()
        time.sleep(away)  # how long is the question
        redis.start()

    run_through(daemon, client, ledger, restart)


def test_what_was_put_back_is_a_claim_like_any_other(celery_app, daemon, client, ledger):
    """After the loss its worker is killed as well: the task runs again, and once more only."""
    task = tasks.record.delay(1, 1, str(ledger), seconds=4)
    ledger.wait("start", 1)
    client.flushall()
    eventually(lambda: claims(client) == (1, 1, 1), what=lambda: str(claims(client)))
    (worker,) = daemon.pids("worker 1")
    os.kill(worker, signal.SIGKILL)
    ledger.wait("end", 1, PATIENCE)
    wait_settled(client)
    assert stored(client, task.id)["result"] == 1
    assert [len(pids) for pids in ledger.runs().values()] == [2] and len(ledger.lines("end")) == 1


def test_at_most_once(celery_app, fairstalk, client, ledger):
    """What was started for good stays so: killed after the loss, it is a dead letter and does not run again."""
    daemon = fairstalk(workers={"processes": 1}, delivery={"mode": "at-most-once"}, log={"format": "json"})
    task = tasks.record.delay(1, 1, str(ledger), seconds=60)
    ledger.wait("start", 1)
    client.flushall()
    eventually(lambda: claims(client) == (0, 0, 1), what=lambda: str(claims(client)))
    (worker,) = daemon.pids("worker 1")
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: [letter["id"] for letter in daemon.dead_letters()] == [task.id], PATIENCE, daemon.log)
    assert len(ledger.lines("start")) == 1


def starts_afresh(daemon, ledger):
    """The worker does not go on: its task is ended before it runs again, or is gone."""
    eventually(lambda: said(daemon, "starts afresh"), PATIENCE, daemon.log)
    assert not said(daemon, LOST)
    tasks.record.delay(1, 2, str(ledger))
    eventually(lambda: 2 in ledger.numbers("end"), PATIENCE, daemon.log)
    first = ledger.lines("start")[0]
    assert not [line for line in ledger.lines("end") if line["pid"] == first["pid"]], "the first run was ended"


def test_older_data(celery_app, fairstalk, redis, client, ledger):
    """A snapshot from before fairstalk was started: the task waits there, and would be run beside itself."""
    task = tasks.record.delay(1, 1, str(ledger), seconds=2)
    client.save()
    daemon = fairstalk(**CONFIG)
    ledger.wait("start", 1)
    redis.stop()
    redis.start()
    starts_afresh(daemon, ledger)
    wait_settled(client)
    assert stored(client, task.id)["result"] == 1
    assert sorted(ledger.numbers("end")) == [1, 2] and len(ledger.runs()[task.id]) == 2


def test_a_worker_that_was_silent_for_too_long(celery_app, daemon, client, ledger):
    """Its lease had run out when the data was lost: somebody may have taken over before."""
    tasks.record.delay(1, 1, str(ledger), seconds=60)
    ledger.wait("start", 1)
    (worker,) = daemon.pids("worker 1")
    os.kill(worker, signal.SIGSTOP)
    time.sleep(LEASE + 1)  # how long is the question
    client.flushall()
    os.kill(worker, signal.SIGCONT)
    starts_afresh(daemon, ledger)
