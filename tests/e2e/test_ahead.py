"""Short tasks are claimed before a slot is free for them: nothing else about them changes."""
import os
import random
import signal

from harness.broker import wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

USERS = range(1, 41)
#: So that also a machine that does other things at the same time finds the tasks short.
AHEAD = {"claim_ahead": "50ms"}


def enqueue(ledger, each, seconds=0):
    """So many tasks of every user, in turn. Returns how many that are."""
    for n in range(each):
        for user in USERS:
            enqueue_task_to_user_queue(tasks.record, user, user, n, str(ledger), seconds=seconds)
    return each * len(USERS)


def assert_in_order(lines, slots):
    """Each user's tasks started one after the other, but for those that ran at the same time."""
    for user in USERS:
        numbers = list(dict.fromkeys(line["n"] for line in lines if line["user"] == user))
        for place, number in enumerate(numbers):
            not_yet = set(range(number)) - set(numbers[:place])
            assert len(not_yet) < slots, f"user {user}: {number} started before {not_yet}"


def scripts(client):
    """Scripts Redis has run: one for each exchange with a worker."""
    return client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


def test_short_tasks_share_an_exchange_and_start_in_order(celery_app, client, fairstalk, ledger):
    """Four workers: of nobody are there two at work with tasks of his that have not started."""
    count = enqueue(ledger, 100)
    fairstalk(workers={"processes": 4, "concurrency": 1, **AHEAD})
    ledger.wait("end", count, timeout=120)
    wait_settled(client)
    lines = ledger.lines("start")
    assert len(lines) == count
    assert_in_order(lines, 4)
    assert scripts(client) < 0.7 * count


def test_nothing_is_lost_of_what_was_claimed_ahead(celery_app, client, fairstalk, ledger):
    """Runners and workers are killed meanwhile. Only what ran may run again."""
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    count = enqueue(ledger, 100)
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2, **AHEAD}, delivery={"max_deliveries": 20})
    kills = 0
    for part in range(1, 9):
        ledger.wait("end", part * count // 10, timeout=120)
        victims = daemon.pids("runner" if part % 4 else "worker")
        if victims:
            os.kill(dice.choice(victims), signal.SIGKILL)
            kills += 1
    assert kills >= 6
    ledger.wait("end", count, timeout=120)
    eventually(lambda: {(line["user"], line["n"]) for line in ledger.lines("end")} == {
        (user, n) for user in USERS for n in range(100)}, 60, "every task has ended")
    wait_settled(client)
    again = len(ledger.lines("start")) - count
    # A worker dies with two runners, of which each runs one task; what these have ended and not told of runs again too.
    assert again < 200, again
    assert daemon.dead_letters() == []


def test_a_runner_has_its_share_and_no_more(celery_app, client, fairstalk, ledger):
    """`max_tasks_per_runner` counts what a runner takes for itself, too."""
    count = enqueue(ledger, 20)
    fairstalk(workers={"processes": 1, "concurrency": 2, **AHEAD}, python={"max_tasks_per_runner": 50})
    ledger.wait("end", count, timeout=120)
    wait_settled(client)
    runners = [line["pid"] for line in ledger.lines("start")]
    assert max(runners.count(pid) for pid in set(runners)) == 50


def test_long_tasks_behind_short_ones_run_in_parallel(celery_app, client, fairstalk, ledger):
    """What was claimed ahead because tasks were short doesn't wait behind one that isn't: every slot is used."""
    count = enqueue(ledger, 30)
    for n in range(30, 33):
        for user in USERS:
            enqueue_task_to_user_queue(tasks.record, user, user, n, str(ledger), seconds=0.5)
    fairstalk(workers={"processes": 2, "concurrency": 2, **AHEAD})
    ledger.wait("end", count + 3 * len(USERS), timeout=120)
    wait_settled(client)
    assert len(ledger.lines("start")) == count + 3 * len(USERS)
    assert_in_order(ledger.lines("start"), 4)
    spans = {}
    for line in ledger.lines():
        spans.setdefault((line["user"], line["n"]), {})[line["event"]] = line["time"]
    long = sorted(span["start"] for (_, n), span in spans.items() if n >= 30)
    ends = [span["end"] for (_, n), span in spans.items() if n >= 30]
    busy = sum(span["end"] - span["start"] for (_, n), span in spans.items() if n >= 30)
    assert busy / (max(ends) - long[0]) > 2, "slots stood idle"


def test_a_task_that_kills_the_runner_that_took_it(celery_app, client, fairstalk, ledger, tmp_path):
    """A runner ends a task, takes the next itself and dies of it, before the worker has heard of either: that one runs again."""
    fairstalk(workers={"processes": 1, "concurrency": 2, **AHEAD}, delivery={"max_deliveries": 20})
    enqueue(ledger, 5)
    ledger.wait("end", 200, timeout=60)
    for part in range(10):
        deaths = []
        for n in range(5):
            enqueue(ledger, 1)
            deaths.append(tasks.kill_self.apply_async((9, str(tmp_path / f"{part}-{n}")), queue="queue_3"))
        assert [death.get(timeout=60) for death in deaths] == ["alive"] * 5
    wait_settled(client)
    assert len({line["task"] for line in ledger.lines("end")}) == 200 + 10 * 5 * len(USERS)
