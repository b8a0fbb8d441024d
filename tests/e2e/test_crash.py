"""Whatever is killed, at any moment: nothing is lost, nothing is left behind, and only what ran then runs again."""
import os
import signal

import pytest
from billiard.exceptions import WorkerLostError
from harness.broker import stored, wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

PATIENCE = 40
USERS = (1, 2, 3)
COUNT = 45


class Load:
    """Many short tasks of several users under way, and what became of them."""

    def __init__(self, ledger, client):
        self.ledger = ledger
        self.client = client
        self.sent = [
            enqueue_task_to_user_queue(tasks.record, USERS[n % 3], USERS[n % 3], n, str(ledger), seconds=0.1)
            for n in range(COUNT)
        ]

    def wait_running(self):
        """Until a part is done and something runs; returns the pids of the runners."""
        self.ledger.wait("end", 5)
        return eventually(self.ledger.running)

    def check(self, killed, slots):
        """All are done; those that ran twice were running in a process that was killed, in so many slots at most."""
        assert [task.get(timeout=PATIENCE) for task in self.sent] == list(range(COUNT))
        wait_settled(self.client)
        runs = self.ledger.runs()
        assert set(runs) == {task.id for task in self.sent}
        twice = {task: pids for task, pids in runs.items() if len(pids) > 1}
        assert all(len(pids) == 2 and pids[0] in killed for pids in twice.values()), (twice, killed)
        assert len(twice) <= slots
        assert self.client.zcard("fairstalk:dead") == 0


@pytest.fixture
def load(celery_app, ledger, client):
    """Forty-five tasks in the queues."""
    return Load(ledger, client)


def pids(daemon):
    """Pid to title of everything that runs of the daemon, without itself."""
    return {process.pid: process.cmdline for process in daemon.left() if process.pid != daemon.pid}


def test_a_killed_runner(load, fairstalk):
    """One task runs again; everybody else is the same process as before."""
    daemon = fairstalk()
    before = pids(daemon)
    victim = load.wait_running().pop()
    os.kill(victim, signal.SIGKILL)
    load.check({victim}, slots=1)
    after = eventually(lambda: len(now := pids(daemon)) == len(before) and now, what=lambda: str(pids(daemon)))
    assert set(before) - set(after) == {victim}
    assert sorted(after.values()) == sorted(before.values())


def test_a_killed_zygote(load, fairstalk):
    """All runners go with it and another zygote comes; the workers stay, and no task is blamed."""
    daemon = fairstalk()
    workers = {number: daemon.pids(f"worker {number}") for number in (1, 2)}
    runners = set(daemon.pids("runner of"))
    (victim,) = daemon.pids("zygote")
    load.wait_running()
    os.kill(victim, signal.SIGKILL)
    load.check(runners, slots=4)
    assert {number: daemon.pids(f"worker {number}") for number in (1, 2)} == workers
    assert not runners & set(daemon.pids("runner of"))
    (successor,) = daemon.pids("zygote")
    assert successor != victim


def test_a_killed_worker(load, fairstalk):
    """Its runners go with it and another worker comes; zygote, the other worker and its runners stay."""
    daemon = fairstalk(workers={"restart_min": "50ms"})
    before = pids(daemon)
    (victim,) = daemon.pids("worker 1")
    runners = set(daemon.pids("runner of worker1@"))
    load.wait_running()
    os.kill(victim, signal.SIGKILL)
    load.check(runners, slots=2)
    after = eventually(lambda: len(now := pids(daemon)) == len(before) and now, what=lambda: str(pids(daemon)))
    assert set(before) - set(after) == {victim} | runners
    assert sorted(after.values()) == sorted(before.values())


def test_a_killed_supervisor(load, fairstalk):
    """Nobody is orphaned; the next daemon takes up what its predecessor held, once its lease is over."""
    first = fairstalk()
    runners = set(first.pids("runner of"))
    load.wait_running()
    first.kill()
    eventually(lambda: not first.left(), what=lambda: str(first.left()))
    assert load.client.hlen("unacked") > 0
    fairstalk()
    load.check(runners, slots=4)


def test_another_daemon_takes_over(celery_app, client, ledger, fairstalk):
    """Whoever is left puts back what a daemon held of which nothing is left, once its lease is over."""
    first, second = fairstalk(), fairstalk()
    runners = set(first.pids("runner of"))
    load = Load(ledger, client)
    eventually(lambda: runners & ledger.running())
    first.kill()
    eventually(lambda: not first.left(), what=lambda: str(first.left()))
    load.check(runners, slots=4)
    assert "claims of a dead worker" in second.log()


def test_a_worker_that_was_stopped_settles_nothing(celery_app, client, fairstalk, ledger):
    """Another daemon has taken over its task meanwhile. Its own run has ended; neither is that stored, nor is the other's
    claim touched."""
    daemons = [fairstalk(workers={"processes": 1, "concurrency": 1, "liveness_timeout": "60s"}) for _ in range(2)]
    task = tasks.record.delay(1, 1, str(ledger), seconds=12)
    ledger.wait("start", 1)
    (runner,) = ledger.running()
    first, second = daemons if runner in daemons[0].pids("runner of") else reversed(daemons)
    (worker,) = first.pids("worker 1")
    os.kill(worker, signal.SIGSTOP)
    ledger.wait("end", 1, timeout=PATIENCE)
    assert ledger.running() <= set(second.pids("runner of")) and len(ledger.running()) == 1
    os.kill(worker, signal.SIGCONT)
    first.wait_log("starts afresh")
    assert stored(client, task.id) is None and client.hlen("unacked") == 1
    assert task.get(timeout=PATIENCE) == 1
    wait_settled(client)
    assert len(ledger.lines("start")) == len(ledger.lines("end")) == 2


def test_a_task_that_always_kills_its_runner(celery_app, fairstalk, client, tmp_path):
    """Three deliveries, then the caller is told and the message is set aside; a task that did it once goes on."""
    daemon = fairstalk(log={"format": "json"})
    once = tasks.kill_self.delay(unless=str(tmp_path / "once"))
    always = tasks.kill_self.delay()
    with pytest.raises(WorkerLostError, match=r"signal 9 \(SIGKILL\)"):
        always.get(timeout=PATIENCE)
    assert once.get(timeout=PATIENCE) == "alive"
    (letter,) = eventually(daemon.dead_letters)
    assert (letter["reason"], letter["id"], letter["queue"]) == ("runner-lost", always.id, "queue_0")
    assert "SIGKILL" in letter["detail"]
    deaths = [record for record in daemon.records() if "its runner died" in record["message"]]
    assert len([record for record in deaths if record.get("task_id") == always.id and record.get("outcome") == "lost"]) == 3
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    wait_settled(client)


def test_a_task_that_always_kills_its_worker(celery_app, fairstalk, client, ledger):
    """Whoever takes its worker with it three times is set aside too: else it would stop everybody's work for ever."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1, "restart_min": "10ms"})
    poison = tasks.record.delay(1, 1, str(ledger), seconds=60)
    for delivery in range(1, 4):
        ledger.wait("start", delivery)
        (victim,) = daemon.pids("worker 1")
        os.kill(victim, signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="died 3 times"):
        poison.get(timeout=PATIENCE)
    (letter,) = daemon.dead_letters()
    assert (letter["reason"], letter["id"]) == ("runner-lost", poison.id)
    assert len(ledger.lines("start")) == 3
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    wait_settled(client)
