"""What may wait although slots are free: queues that are paused, tasks whose rate is limited."""
import pytest
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from harness import PROJECT
from harness.broker import wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import get_queue_for_user

NOW = {"drain_timeout": "0s"}
BULK = 1
QUEUE = get_queue_for_user(BULK)
OTHER = next(user for user in range(2, 100) if get_queue_for_user(user) not in (QUEUE, "queue_0"))

#: The application with a limit of its own on one task.
LIMITED = """
from imgbackend.celery import app

app.conf.task_annotations = {"bench.tasks.record": {"rate_limit": "8/s"}}
"""


def send(ledger, user, count, seconds=0.0, first=0, **options):
    """`count` tasks of one user, numbered."""
    return [
        tasks.record.apply_async((user, n, str(ledger), seconds), queue=get_queue_for_user(user), **options)
        for n in range(first, first + count)
    ]


def test_a_queue_can_be_paused_under_load(celery_app, client, fairstalk, ledger):
    """Over two daemons: what runs goes on, nothing more of it starts, other queues go on; resumed, all of it runs in order."""
    one, two = (fairstalk(workers={"processes": 1, "concurrency": 2, **NOW}) for _ in range(2))
    each = 150
    send(ledger, BULK, each, seconds=0.05)
    ledger.wait("start", 10)
    done = one.call("pause", "--queue", QUEUE)
    assert (done.returncode, done.stdout) == (0, "paused: 1\n"), done.stderr
    wait_settled(client)
    paused_at = len(ledger.numbers("start", BULK))
    assert paused_at < each
    send(ledger, BULK, each, first=each)  # producers go on
    send(ledger, OTHER, 20)
    eventually(lambda: len(ledger.numbers("end", OTHER)) == 20, timeout=30)
    assert len(ledger.numbers("start", BULK)) == paused_at
    waiting = next(line for line in two.ask("queues") if line["queue"] == QUEUE)
    assert (waiting["waiting"], waiting["paused"]) == (2 * each - paused_at, True)
    assert f"paused: {QUEUE};" in two.call("status").stdout
    [status] = two.ask("status")
    assert status["paused_queues"] == [QUEUE]
    [line] = two.ask("tenants", "--explain", BULK)
    assert line["explanation"]["verdict"] == f"waits until `fairstalk resume --queue`: {QUEUE} paused"
    assert one.call("pause", "--queue", QUEUE).stdout == "paused: 0; paused already: 1\n"
    assert two.call("resume", "--queue", QUEUE).stdout == "resumed: 1\n"
    eventually(lambda: len(ledger.numbers("end", BULK)) == 2 * each, timeout=60)
    numbers = ledger.numbers("start", BULK)
    assert sorted(numbers) == list(range(2 * each))
    # Claimed in order; of four slots some reach the ledger late. What came during the pause is 150 places behind.
    assert all(n >= place - 40 for place, n in enumerate(numbers)), str(numbers)
    unknown = one.call("pause", "--queue", "queue_99")
    assert unknown.returncode == 78 and 'there is no queue "queue_99"' in unknown.stderr


def test_a_task_has_one_rate_over_all_daemons(celery_app, client, fairstalk, ledger, app_env, tmp_path):
    """The task's own `rate_limit`, over two daemons; it holds no slot, and none of its starts is lost."""
    (tmp_path / "limited.py").write_text(LIMITED)
    python = {"app": "limited", "env": {**app_env, "PYTHONPATH": f"{tmp_path}:{PROJECT}"}}
    workers = {"processes": 1, "concurrency": 2, **NOW}
    daemons = [fairstalk(workers=workers, python=python) for _ in range(2)]
    count = 24
    send(ledger, BULK, count // 2)
    send(ledger, OTHER, count // 2, first=count // 2)
    ledger.wait("start", 3)
    # All of them wait, and still every slot is free for others.
    for result in [tasks.add.delay(n, n) for n in range(20)]:
        result.get(timeout=30)
    assert len(ledger.lines("start")) < count, "there was nothing left to hold slots"
    ledger.wait("end", count)
    wait_settled(client)
    starts = ledger.lines("start")
    assert sorted(line["n"] for line in starts) == list(range(count))
    times = sorted(line["time"] for line in starts)
    # In any second so many at most, and one more at its edge; a start may be late by what this machine is.
    most = max(sum(begin <= time < begin + 1 - 0.1 for time in times) for begin in times)
    assert most <= 9, times
    assert times[-1] - times[0] >= (count - 1) / 8 - 0.2
    for user in (BULK, OTHER):
        assert ledger.numbers("start", user) == sorted(ledger.numbers("start", user))
    # The users take turns.
    assert {line["user"] for line in starts[:4]} == {BULK, OTHER}
    assert len({line["pid"] for line in starts}) > 1
    assert all("8/s" not in daemon.log() for daemon in daemons)


def test_what_waits_for_its_rate_can_expire_and_be_revoked(celery_app, client, fairstalk, ledger):
    """Once the limit is lifted by remote control, what is still wanted runs, and nothing else.

    Which of the first two starts first is open: two workers may claim one each at the same instant.
    """
    limit = {"bench.tasks.record": {"rate_limit": "1/h"}}
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2, **NOW}, tasks=limit)
    first, second = send(ledger, BULK, 2)
    [expired] = send(ledger, BULK, 1, first=2, expires=0.5)
    revoked, last = send(ledger, BULK, 2, first=3)
    ledger.wait("end", 1)
    eventually(lambda: [line["waiting"] for line in daemon.ask("tenants") if line["tenant"] == "1"] == [4])
    wait_settled(client)
    assert daemon.call("revoke", revoked.id).returncode == 0
    [line] = daemon.ask("tenants", "--explain", BULK)
    assert line["explanation"]["verdict"].startswith("waits for the rate of bench.tasks.record: "), line
    assert ledger.numbers("start") in ([0], [1])
    now = client.time()[0]
    eventually(lambda: client.time()[0] > now + 1)  # its time is over
    answers = celery_app.control.rate_limit("bench.tasks.record", "0", reply=True, timeout=10)
    assert [list(answer.values()) for answer in answers] == [[{"ok": "rate limit disabled successfully"}]] * 2
    ledger.wait("end", 3)
    wait_settled(client)
    assert sorted(ledger.numbers("start")) == [0, 1, 4]
    for result in (expired, revoked):
        with pytest.raises(TaskRevokedError):
            AsyncResult(result.id).get(timeout=10)
    assert second.get(timeout=10) == 1 and last.get(timeout=10) == 4 and first.get(timeout=10) == 0


def test_a_daemon_that_is_killed_loses_nothing_that_waits_for_its_rate(celery_app, client, fairstalk, ledger):
    """Whoever is left goes on with the same rate."""
    sections = {"workers": {"processes": 1, "concurrency": 2, **NOW}, "tasks": {"bench.tasks.record": {"rate_limit": "5/s"}}}
    one, _ = fairstalk(**sections), fairstalk(**sections)
    send(ledger, BULK, 15)
    ledger.wait("start", 3)
    one.popen.kill()
    eventually(lambda: set(ledger.numbers("end")) == set(range(15)), timeout=60)
    wait_settled(client)
    times = sorted(line["time"] for line in ledger.lines("start"))
    assert times[-1] - times[0] >= 14 / 5 - 0.2


@pytest.mark.parametrize(
    ("task", "limit"), [("bench.tasks.add", "10/m"), ("bench.tasks.add", 0), ("no.such", "1/s"), ("bench.tasks.add", "ten/m")]
)
def test_rate_limit_answers_as_celery_does(celery_app, start_worker, task, limit):
    """The same words under both."""
    start_worker(slots=1)
    expected = {
        ("bench.tasks.add", "10/m"): {"ok": "new rate limit set successfully"},
        ("bench.tasks.add", 0): {"ok": "rate limit disabled successfully"},
        ("no.such", "1/s"): {"error": "unknown task"},
        ("bench.tasks.add", "ten/m"): {
            "error": """Invalid rate limit string: ValueError("could not convert string to float: 'ten'")"""
        },
    }[task, limit]
    [answer] = celery_app.control.rate_limit(task, limit, reply=True, timeout=20, limit=1)
    assert list(answer.values()) == [expected]
