"""When a message is acknowledged: at least once, at most once, and as tasks declare it to Celery."""
import os
import random
import signal

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import TimeoutError as NoResult
from harness.broker import stored, wait_settled
from harness.waiting import eventually

from bench import tasks

PATIENCE = 40
COUNT = 40
SINGLE = {"restart_min": "20ms", "processes": 2, "concurrency": 2}

#: Declaration and what happens to the first run → runs, final state, and the reason in fairstalk's dead letters.
OUTCOMES = {
    ("early", "die"): (1, "FAILURE", "at-most-once"),
    ("early", "fail"): (1, "FAILURE", None),
    ("early", "hang"): (1, "FAILURE", None),
    ("early", "requeue"): (1, "PENDING", "rejected"),
    ("late", "die"): (1, "FAILURE", "runner-lost"),
    ("late", "fail"): (1, "FAILURE", None),
    ("late", "hang"): (1, "FAILURE", None),
    ("late", "requeue"): (2, "SUCCESS", None),
    ("late_reject", "die"): (2, "SUCCESS", None),
    ("late_unacked", "die"): (1, "FAILURE", "runner-lost"),
    ("late_unacked", "fail"): (1, "FAILURE", "failed"),
    ("late_unacked", "hang"): (2, "SUCCESS", None),
}


def settled(client):
    """Nothing is claimed or waits."""
    wait_settled(client)
    return not client.keys("queue_*")


@pytest.mark.parametrize("worker", ["celery", "fairstalk"])
def test_declarations(request, celery_app, client, ledger, worker):
    """The same under a stock worker and under fairstalk, mode `declared`; there nothing is gone without a trace."""
    sent = {
        case: tasks.DECLARED[case[0]].apply_async(
            (str(ledger), case[1]), queue=f"queue_{number}", **({"time_limit": 2} if case[1] == "hang" else {})
        )
        for number, case in enumerate(OUTCOMES)
    }

    def outcomes():
        runs = ledger.runs()
        # Not by AsyncResult, which keeps the first end it has seen.
        state = lambda result: (stored(client, result.id) or {"status": "PENDING"})["status"]
        return {case: (len(runs.get(result.id, [])), state(result)) for case, result in sent.items()}

    def check():
        expected = {case: outcome[:2] for case, outcome in OUTCOMES.items()}
        differ = lambda: {case: (got, expected[case]) for case, got in outcomes().items() if got != expected[case]}
        eventually(lambda: not differ(), PATIENCE, lambda: f"got, expected: {differ()}")
        eventually(lambda: settled(client), PATIENCE)
        assert not differ()

    if worker == "celery":
        with request.getfixturevalue("stock_worker")("-c", "4"):
            check()
        return
    # A runner that died is not to make others late.
    daemon = request.getfixturevalue("fairstalk")(delivery={"mode": "declared"})
    check()
    letters = {letter["id"]: letter["reason"] for letter in daemon.dead_letters()}
    expected = {sent[case].id: reason for case, (_, _, reason) in OUTCOMES.items() if reason}
    assert letters == expected


def test_the_worker_decides_when_it_is_over(celery_app, fairstalk, client, ledger):
    """At least once: a task that declares it wants its message back gets it `max_deliveries` times, then its caller is told."""
    daemon = fairstalk(delivery={"max_deliveries": 1})
    wants_more = tasks.DECLARED["late_reject"].apply_async((str(ledger), "die"))
    with pytest.raises(WorkerLostError):
        wants_more.get(timeout=PATIENCE)
    assert [letter["reason"] for letter in daemon.dead_letters()] == ["runner-lost"]
    over_time = tasks.DECLARED["late_unacked"].apply_async((str(ledger), "hang"), time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        over_time.get(timeout=PATIENCE)
    assert len(ledger.lines("start")) == 2
    wait_settled(client)


class Once:
    """Tasks that are delivered at most once, and what became of them. The first one takes longer than any test."""

    def __init__(self, ledger, client):
        self.ledger, self.client = ledger, client
        self.sent = [
            tasks.record.apply_async((1, n, str(ledger), 0.05 if n else 600), queue=f"queue_{n % 3}") for n in range(COUNT)
        ]

    def long_one(self):
        """Pid of what runs it, when others have ended meanwhile."""
        self.ledger.wait("end", 5)
        return self.ledger.runs()[self.sent[0].id][0]

    def check(self, daemon, most_dead):
        """Each ended after one run, or lies in the dead letters; whoever waits has been told either way."""
        ids = {result.id for result in self.sent}

        def done():
            ended = {line["task"] for line in self.ledger.lines("end")}
            return len(ended | {letter["id"] for letter in daemon.dead_letters()}) == len(ids) and settled(self.client)

        eventually(done, PATIENCE, lambda: f"{len(self.ledger.lines('end'))} ended, {daemon.dead_letters()}")
        runs = self.ledger.runs()
        assert all(len(pids) == 1 for pids in runs.values()), "never a second time"
        letters = {letter["id"]: letter for letter in daemon.dead_letters()}
        assert {letter["reason"] for letter in letters.values()} <= {"at-most-once"}
        begun_only = {line["task"] for line in self.ledger.lines("start")} - {line["task"] for line in self.ledger.lines("end")}
        assert begun_only <= set(letters), "what was cut short is named"
        assert 1 <= len(letters) <= most_dead
        for result in self.sent:
            if result.id in letters and result.id in begun_only:
                with pytest.raises(WorkerLostError):
                    result.get(timeout=PATIENCE)
            elif result.id not in letters:
                assert isinstance(result.get(timeout=PATIENCE), int)
        for task_id in letters:
            assert task_id in daemon.log(), "the log names it"
        assert not [key for key in self.client.keys("fairstalk:claims:*") if self.client.hlen(key) > 1]


@pytest.fixture
def once(celery_app, ledger, client):
    return Once(ledger, client)


@pytest.mark.parametrize("victim", ["runner", "worker", "zygote"])
def test_at_most_once_when_a_process_is_killed(once, fairstalk, victim):
    """What it ran is a dead letter, what it had not started runs elsewhere, and nothing runs twice."""
    daemon = fairstalk(workers=SINGLE, delivery={"mode": "at-most-once"})
    pid = once.long_one()
    if victim == "worker":
        number = 1 if pid in daemon.pids("runner of worker1@") else 2
        (pid,) = daemon.pids(f"worker {number}")
    if victim == "zygote":
        (pid,) = daemon.pids("zygote")
    os.kill(pid, signal.SIGKILL)
    once.check(daemon, most_dead=4)


def test_at_most_once_when_the_daemon_is_killed(once, fairstalk):
    """The next daemon finds what had been started, and does not start it again."""
    first = fairstalk(workers=SINGLE, delivery={"mode": "at-most-once"})
    once.long_one()
    first.kill()
    eventually(lambda: not first.left(), what=lambda: str(first.left()))
    once.check(fairstalk(workers=SINGLE, delivery={"mode": "at-most-once"}), most_dead=4)


def test_at_most_once_killed_again_and_again(once, fairstalk):
    """Runners and workers, each time as soon as some random number of tasks has begun."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng, kills = random.Random(seed), 6
    daemon = fairstalk(workers=SINGLE, delivery={"mode": "at-most-once"})
    begun = 0
    for _ in range(kills):
        begun = max(begun + rng.randrange(1, 6), len(once.ledger.lines("start")))
        once.ledger.wait("start", min(begun, COUNT - 12))
        victims = eventually(lambda: daemon.pids(rng.choice(["worker 1", "worker 2", "runner of"])))
        try:
            os.kill(rng.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            continue  # its worker was the last victim
    for pid in {once.ledger.runs()[once.sent[0].id][0]} & {process.pid for process in daemon.left()}:
        os.kill(pid, signal.SIGKILL)
    once.check(daemon, most_dead=2 * kills + 1)


def test_at_most_once_at_the_end_of_a_drain(celery_app, fairstalk, client, ledger):
    """What runs when the time is over is not handed back; what waits stays where it is."""
    daemon = fairstalk(
        workers={"processes": 1, "concurrency": 1, "drain_timeout": "100ms"},
        **{'tasks."bench.tasks.record"': {"delivery": "at-most-once"}},
    )
    running = tasks.record.apply_async((1, 1, str(ledger), 60), queue="queue_1")
    ledger.wait("start", 1)
    waiting = tasks.record.apply_async((1, 2, str(ledger), 0), queue="queue_2")
    assert daemon.stop() == 75
    assert client.llen("queue_1") == 0 and client.llen("queue_2") == 1
    assert client.hlen("unacked") == 0
    (letter,) = daemon.dead_letters()
    assert (letter["reason"], letter["id"]) == ("at-most-once", running.id)
    assert "drain_timeout" in letter["detail"]
    with pytest.raises(WorkerLostError):
        running.get(timeout=PATIENCE)
    with pytest.raises(NoResult):
        waiting.get(timeout=0.1)


def test_at_most_once_commands(celery_app, fairstalk, client, tmp_path):
    """A command that is killed with its worker isn't run again; one that fails is retried, because it came to its end."""
    script = "echo run >> {}; cat > /dev/null; {}"
    commands = {"dies": "sleep 60", "fails": "echo no luck >&2; exit 3"}
    sections = {
        f'tasks."{name}"': {
            "command": ["/bin/sh", "-c", script.format(tmp_path / name, end)],
            "delivery": "at-most-once",
            "keep_failed": True,
            "max_retries": 1,
            "retry_backoff": "10ms",
        }
        for name, end in commands.items()
    }
    daemon = fairstalk(workers={"processes": 1, "concurrency": 2, "restart_min": "20ms"}, **sections)
    sent = {name: celery_app.send_task(name, queue="queue_1") for name in commands}
    with pytest.raises(Exception, match="no luck"):
        sent["fails"].get(timeout=PATIENCE)
    eventually((tmp_path / "dies").exists)
    os.kill(daemon.pids("worker 1")[0], signal.SIGKILL)
    with pytest.raises(WorkerLostError):
        sent["dies"].get(timeout=PATIENCE)
    found = eventually(lambda: len(found := daemon.dead_letters()) == 2 and found)
    letters = {letter["task"]: letter for letter in found}
    assert (letters["dies"]["reason"], letters["fails"]["reason"]) == ("at-most-once", "failed")
    assert (letters["fails"]["exit_code"], letters["fails"]["output"], letters["fails"]["attempt"]) == (3, ["no luck"], 2)
    assert (tmp_path / "dies").read_text() == "run\n" and (tmp_path / "fails").read_text() == "run\nrun\n"
    wait_settled(client)
