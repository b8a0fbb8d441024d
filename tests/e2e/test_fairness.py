"""No user waits behind another one's bulk job, whatever the hash says."""
import json
import os
import signal

import pytest
from harness.broker import of_fleet, wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

BULK = 1
TENANCY = {"parameter": "user_id"}


def sharing(user, count, shares=True):
    """Users whose queue is that of `user`, or is not."""
    queue = get_queue_for_user(user)
    others = (other for other in range(user + 1, 10_000) if (get_queue_for_user(other) == queue) == shares)
    return [next(others) for _ in range(count)]


def bulk_starts_before(ledger, user, position):
    """Tasks of others that started after line `position` and before the first task of this user."""
    lines = ledger.lines()[position:]
    first = next(at for at, line in enumerate(lines) if line["event"] == "start" and line["user"] == user)
    return [line for line in lines[:first] if line["event"] == "start" and line["user"] != user]


@pytest.mark.parametrize("shares", [True, False], ids=["same queue", "another queue"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_quiet_user_is_next(celery_app, fairstalk, ledger, processes, shares):
    """Behind hundreds of tasks of one user, another one's task takes the next free slot, or the one after."""
    for n in range(400):
        enqueue_task_to_user_queue(tasks.record, BULK, BULK, n, str(ledger), seconds=0.05)
    fairstalk(workers={"processes": processes, "concurrency": 2}, tenancy=TENANCY)
    for quiet in sharing(BULK, 4, shares):
        ledger.wait("start", 2 * processes + 20)
        seen = len(ledger.lines())
        enqueue_task_to_user_queue(tasks.record, quiet, quiet, 1000, str(ledger)).get(timeout=30)
        overtaken = bulk_starts_before(ledger, quiet, seen)
        # A few starts lie between the look at the ledger and the arrival of the message.
        assert len(overtaken) <= 3 * 2 * processes, overtaken
    assert len(ledger.numbers("start", BULK)) < 400, "the bulk job was over before anybody could wait behind it"


def test_others_at_the_same_list_do_not_end_the_filing(celery_app, client, fairstalk):
    """While a long list is filed a stock worker takes the message at its front; what is behind it is filed all the same."""
    queue = get_queue_for_user(BULK)
    enqueue_task_to_user_queue(tasks.sleep, BULK, 600, user_id=BULK)
    text = client.lpop(queue).decode()
    envelope = json.loads(text)
    task, tag = envelope["headers"]["id"], envelope["properties"]["delivery_tag"]
    for n in range(8_000):
        client.lpush(queue, text.replace(task, f"{task[:-5]}{n:05}").replace(tag, f"{tag[:-5]}{n:05}"))
    fairstalk(workers={"processes": 1, "concurrency": 2, "drain_timeout": "100ms"}, tenancy=TENANCY)
    taken = 0
    for left in (6_000, 4_000, 2_000):
        eventually(lambda: client.llen(queue) < left, 60, lambda: f"{client.llen(queue)} left, {left} wanted")
        taken += client.rpop(queue) is not None
    eventually(lambda: client.llen(queue) == 0, 60, lambda: f"{client.llen(queue)} not filed")
    assert taken > 0
    assert int(client.hget(of_fleet("tenants"), "waiting")) == 8_000 - 2 - taken


def test_many_users_in_all_queues_at_once(celery_app, client, fairstalk, ledger):
    """More of them than one step files: whoever there is no room for is filed by a later one, and each in his order."""
    users = range(1, 401)
    for n in range(3):
        for user in users:
            enqueue_task_to_user_queue(tasks.record, user, user, n, str(ledger))
    fairstalk(workers={"processes": 2, "concurrency": 2}, tenancy=TENANCY)
    ledger.wait("end", 3 * len(users), timeout=90)
    wait_settled(client)
    starts = {user: [] for user in users}
    for line in ledger.lines("start"):
        starts[line["user"]].append(line["n"])
    # Two workers may start two of one user side by side, and the later one may write first.
    assert all(sorted(order) == [0, 1, 2] for order in starts.values()), starts
    assert sum(order != [0, 1, 2] for order in starts.values()) <= 20, starts


def test_users_get_equal_running_time(celery_app, fairstalk, ledger):
    """One user's tasks take ten times as long as the others'; each gets the same time, not the same number."""
    users = {1: 0.2, **dict.fromkeys(sharing(1, 1), 0.02), **dict.fromkeys(sharing(1, 1, shares=False), 0.02)}
    sent = []
    for user, seconds in users.items():
        for n in range(round(12 / seconds / 3)):
            sent.append(enqueue_task_to_user_queue(tasks.record, user, user, n, str(ledger), seconds=seconds))
    fairstalk(workers={"processes": 1, "concurrency": 2}, tenancy=TENANCY)
    ledger.wait("end", len(sent), timeout=60)
    lines = ledger.lines("start")
    ends = {line["task"]: line["time"] for line in ledger.lines("end")}
    # Up to the middle all three have something waiting.
    used = dict.fromkeys(users, 0.0)
    for line in lines[: len(lines) // 2]:
        used[line["user"]] += ends[line["task"]] - line["time"]
    fair = sum(used.values()) / len(used)
    # One long task more or less is a matter of when one looks.
    assert all(abs(time - fair) <= 0.25 + 0.05 * fair for time in used.values()), used


def test_order_of_every_user_through_kills(celery_app, client, fairstalk, ledger):
    """Runners and a worker die meanwhile: of one user, only what was delivered again may start late."""
    users = [*range(1, 6), *sharing(1, 3)]
    # Before the start: workers keep up with a producer, and who has nothing to do would be killed for nothing.
    for n in range(60):
        for user in users:
            enqueue_task_to_user_queue(tasks.record, user, user, n, str(ledger), seconds=0.02)
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2}, tenancy=TENANCY)
    for kill in range(3):
        ledger.wait("end", (kill + 1) * 60 * len(users) // 5)
        running = sorted(ledger.running() & set(daemon.pids("runner")))
        victim = running[0] if kill < 2 and running else daemon.pids("worker")[0]
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: all(set(ledger.numbers("end", user)) == set(range(60)) for user in users), 60)
    wait_settled(client)
    for user in users:
        starts = ledger.numbers("start", user)
        again = {n for n in starts if starts.count(n) > 1}
        assert set(starts) == set(range(60))
        first = [n for n in dict.fromkeys(starts) if n not in again]
        late = [n for at, n in enumerate(first) if any(later > n for later in first[: max(0, at - 4)])]
        assert not late, (user, starts)
