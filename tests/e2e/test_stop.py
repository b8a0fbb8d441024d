"""Stopping: what runs may finish, what waits stays in order, and a stock worker can take over at any time."""
import re
import signal

import pytest
from harness.broker import call_of, wait_settled, waiting
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

PATIENCE = 40
OWN_KEYS = {b"fairstalk:dead", b"fairstalk:dead:messages", b"fairstalk:dead:entries"}


def numbers(client, user):
    """The `record` tasks that wait in a user's queue, by their numbers."""
    return [call_of(message)[0][1] for message in waiting(client, get_queue_for_user(user))]


def check_nothing_of_ours_left(client):
    """Only what kombu knows, so that a stock worker sees everything there is."""
    wait_settled(client)
    assert set(client.keys("fairstalk:*")) <= OWN_KEYS


def test_a_drain(celery_app, client, fairstalk, stock_worker, ledger):
    """Running tasks finish, waiting ones stay in order, delayed ones are poured back; a stock worker does the rest."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 1})
    late = tasks.record.apply_async((1, 100, str(ledger)), countdown=5)
    sent = [enqueue_task_to_user_queue(tasks.record, 1, 1, n, str(ledger), seconds=1.0) for n in range(6)]
    ledger.wait("start", 2)
    daemon.signal(signal.SIGTERM)
    daemon.notify.wait_for(lambda state: state.get("STOPPING") == "1")
    assert daemon.wait() == 0
    assert sorted(ledger.numbers("end")) == [0, 1]
    assert [task.get(timeout=PATIENCE) for task in sent[:2]] == [0, 1]
    assert numbers(client, 1) == [2, 3, 4, 5]
    assert [message["headers"]["id"] for message in waiting(client, "queue_0")] == [late.id]
    check_nothing_of_ours_left(client)
    with stock_worker("-c", "1"):
        assert [task.get(timeout=PATIENCE) for task in [*sent, late]] == [0, 1, 2, 3, 4, 5, 100]
    starts = [n for n in ledger.numbers("start") if n < 100]
    # The first two started at the same time, in two workers.
    assert (set(starts[:2]), starts[2:]) == ({0, 1}, [2, 3, 4, 5])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_hands_back(celery_app, client, fairstalk, ledger, number):
    """The running task goes to the front again, marked as redelivered, and it is not held against it."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1})
    for n in range(3):
        enqueue_task_to_user_queue(tasks.record, 1, 1, n, str(ledger), seconds=60)
    ledger.wait("start", 1)
    daemon.signal(number)
    daemon.notify.wait_for(lambda state: state.get("STOPPING") == "1")
    daemon.signal(number)
    assert daemon.wait() == 75
    assert numbers(client, 1) == [0, 1, 2]
    first, second, _ = waiting(client, get_queue_for_user(1))
    assert first["headers"]["redelivered"] is True
    assert first["properties"]["delivery_info"]["redelivered"] is True
    assert first["properties"]["delivery_info"].get("deliveries", 0) == 0
    assert "redelivered" not in second["headers"]
    assert ledger.lines("end") == []
    check_nothing_of_ours_left(client)


def test_the_deadline_of_a_drain(celery_app, client, fairstalk, ledger):
    """What is not done by then is handed back; what was done in time is not run again."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 2, "drain_timeout": "4s"})
    enqueue_task_to_user_queue(tasks.record, 1, 1, 0, str(ledger), seconds=60)
    short = enqueue_task_to_user_queue(tasks.record, 1, 1, 1, str(ledger), seconds=0.5)
    ledger.wait("start", 2)
    assert daemon.stop() == 75
    left = [int(seconds) for status in daemon.notify.states("STATUS") for seconds in re.findall(r"(\d+) s left", status)]
    assert len(set(left)) >= 2 and left == sorted(left, reverse=True), "STATUS counts down"
    assert short.get(timeout=PATIENCE) == 1
    assert numbers(client, 1) == [0]
    check_nothing_of_ours_left(client)


def test_the_way_back(celery_app, client, fairstalk, stock_worker, ledger):
    """A stock worker finishes what fairstalk was stopped in the middle of, each user's tasks in their order.

    One worker process: between several, what each of them hands back is in order, and what two of them do is not.
    """
    users = (1, 2, 3)
    daemon = fairstalk(workers={"processes": 1, "concurrency": 4, "drain_timeout": "0s"})
    sent = [
        enqueue_task_to_user_queue(tasks.record, users[n % 3], users[n % 3], n, str(ledger), seconds=0.1)
        for n in range(30)
    ]
    ledger.wait("end", 8)
    assert daemon.stop() in (0, 75)
    check_nothing_of_ours_left(client)
    done = ledger.lines()
    with stock_worker("-c", "1"):
        assert [task.get(timeout=PATIENCE) for task in sent] == list(range(30))
    rest = [line for line in ledger.lines("start") if line not in done]
    for user in users:
        order = [line["n"] for line in rest if line["user"] == user]
        assert order and order == sorted(order)
    ended = {line["n"] for line in done if line["event"] == "end"}
    assert not ended & {line["n"] for line in rest}


def test_two_daemons_on_one_redis(celery_app, client, fairstalk, ledger):
    """Where one stops, the other goes on; delayed messages stay where the other finds them."""
    first, second = fairstalk(), fairstalk()
    delayed = tasks.record.apply_async((1, 100, str(ledger)), countdown=1)
    sent = [enqueue_task_to_user_queue(tasks.record, n, n, n, str(ledger), seconds=0.1) for n in range(24)]
    ledger.wait("end", 8)
    assert first.stop() == 0
    assert [task.get(timeout=PATIENCE) for task in [*sent, delayed]] == [*range(24), 100]
    assert all(len(pids) == 1 for pids in ledger.runs().values())
    assert second.stop() == 0
    check_nothing_of_ours_left(client)


def test_a_delayed_task_whose_keeper_has_left(celery_app, client, fairstalk):
    """Whoever put a message aside for later may stop before its time: the others see to it, even if they are idle."""
    daemons = [fairstalk(workers={"processes": 1}), fairstalk(workers={"processes": 1})]
    delayed = tasks.add.apply_async((1, 2), countdown=3)
    (claim,) = eventually(lambda: client.zrange("fairstalk:delayed", 0, -1))
    (keeper,) = [daemon for daemon in daemons if f":{daemon.pid}:" in claim.decode()]
    assert keeper.stop() == 0
    assert client.zcard("fairstalk:delayed") == 1
    assert delayed.get(timeout=PATIENCE / 2) == 3


def test_a_daemon_stopped_right_after_another_was_killed(celery_app, client, fairstalk, ledger):
    """It is the last one, though it doesn't look so yet: it puts back what the dead one held, and what is delayed."""
    killed = fairstalk(workers={"processes": 1, "concurrency": 2})
    late = tasks.record.apply_async((1, 100, str(ledger)), countdown=600)
    eventually(lambda: client.zcard("fairstalk:delayed") == 1)
    for n in range(2):
        enqueue_task_to_user_queue(tasks.record, 1, 1, n, str(ledger), seconds=60)
    ledger.wait("start", 2)
    killed.kill()
    assert fairstalk(workers={"processes": 1}).stop() == 0
    assert numbers(client, 1) == [0, 1]
    assert [message["headers"]["id"] for message in waiting(client, "queue_0")] == [late.id]
    check_nothing_of_ours_left(client)
