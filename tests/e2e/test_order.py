"""Of one user's tasks, the earlier one starts first: over slots, and over worker processes."""
import os
import re
import signal
import threading

import pytest
from harness.broker import call_of, message, of_fleet, wait_settled, waiting
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

USERS = (1, 2, 3, 5, 8)
EACH = 24


class Claims:
    """Task ids in the order in which Redis gave them to workers, whoever asked.

    MONITOR shows the commands of a script too, in the one order in which the server executed them.
    """

    def __init__(self, redis):
        self.ids = []
        self._client = redis.client()
        self._monitor = self._client.monitor().__enter__()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        for command in self._monitor.listen():
            text = command["command"]
            if text.startswith("HSET unacked "):
                self.ids += re.findall(r'\\?"id\\?": \\?"([0-9a-f-]{36})', text)
            elif text == "PING over":
                return

    def close(self):
        """Everything up to now has been seen."""
        self._client.execute_command("PING", "over")
        self._thread.join()
        self._monitor.__exit__()
        self._client.close()


def by_user(pairs):
    """(user, n) in some order: each user's numbers in that order."""
    return {user: [n for whose, n in pairs if whose == user] for user in USERS}


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 2)], ids=["one slot", "one worker", "two workers"])
def test_a_user_s_tasks_start_in_order(celery_app, redis, fairstalk, ledger, shape):
    """Many tasks of several users, enqueued in turn.

    With several slots the ledger can't tell the order to the last place: two runners that were given their tasks
    one after the other race for the file. So there the order is taken from the claims, which are started in the
    order in which they are claimed, and the ledger must agree except for what ran at the same time.
    """
    processes, concurrency = shape
    slots = processes * concurrency
    sent = {}
    for n in range(EACH):
        for user in USERS:
            task = enqueue_task_to_user_queue(tasks.record, user, user, n, str(ledger), seconds=0.002)
            sent[task.id] = (user, n)
    assert len({get_queue_for_user(user) for user in USERS}) > 1
    claims = Claims(redis)
    daemon = fairstalk(
        workers={"processes": processes, "concurrency": concurrency},
        log={"tasks": "all", "format": "json"},
    )
    ledger.wait("end", len(sent))
    assert daemon.stop() == 0
    claims.close()

    in_order = dict.fromkeys(USERS, list(range(EACH)))
    assert by_user([sent[task] for task in claims.ids]) == in_order
    position = {task: place for place, task in enumerate(claims.ids)}
    started = [record for record in daemon.records() if record.get("message") == "started"]
    assert len(started) == len(sent)
    for worker in range(1, processes + 1):
        places = [position[record["task_id"]] for record in started if record["worker"] == worker]
        assert places and places == sorted(places)

    lines = [(line["user"], line["n"]) for line in ledger.lines("start")]
    assert len(lines) == len(sent)
    if slots == 1:
        assert by_user(lines) == in_order
    for numbers in by_user(lines).values():
        for place, number in enumerate(numbers):
            not_yet = set(range(number)) - set(numbers[:place])
            assert len(not_yet) < slots, f"{number} started before {not_yet}"


def test_what_is_handed_back_starts_first_and_in_order(celery_app, client, fairstalk, ledger):
    """Of a user's tasks that are handed back at a stop, each is before those that had not been claimed."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 3, "drain_timeout": "0s"})
    for n in range(6):
        enqueue_task_to_user_queue(tasks.record, 1, 1, n, str(ledger), seconds=60)
    ledger.wait("start", 3)
    assert daemon.stop() == 75
    wait_settled(client)
    queue = waiting(client, get_queue_for_user(1))
    assert [call_of(message)[0][1] for message in queue] == list(range(6))
    assert [message["headers"].get("redelivered", False) for message in queue] == [True] * 3 + [False] * 3


def test_many_users_in_one_long_list_each_keep_their_order(celery_app, client, fairstalk, ledger):
    """More of them than are filed at once, and more messages than are looked at: nothing is lost, twice, or out of turn."""
    users, each = 150, 7
    for n in range(each):
        for user in range(users):
            tasks.record.apply_async((user, n, str(ledger)), queue="queue_7")
    # One at once: what is next of a user starts when the one before has ended.
    fairstalk(queues={"names": ["queue_7"]}, tenancy={"parameter": "user_id", "max_concurrency": 1})
    ledger.wait("end", users * each, timeout=120)
    wait_settled(client)
    for user in range(users):
        assert ledger.numbers("start", user) == list(range(each)), user


def test_nobody_is_guessed_while_the_application_is_gone(celery_app, client, fairstalk, ledger):
    """The zygote is killed while a long list is sorted. Whose the rest is takes the application to know: until it is back
    nothing is sorted, or a user's later tasks would be in a lane of his own, and the earlier ones in that of their queue."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1, "drain_timeout": "0s"})
    enqueue_task_to_user_queue(tasks.record, 1, 1, 0, str(ledger), seconds=600)
    ledger.wait("start", 1)
    queue, tenants = get_queue_for_user(7), of_fleet("tenants")
    client.lpush(queue, *(message(tasks.record.name, (7, n, str(ledger), 600), queue=queue) for n in range(20_000)))
    eventually(lambda: int(client.hget(tenants, "waiting") or 0) > 0)
    (zygote,) = daemon.pids("zygote")
    os.kill(zygote, signal.SIGKILL)
    assert client.llen(queue) > 1000, "there is much to sort yet"
    eventually(lambda: client.llen(queue) == 0, 60, lambda: f"everything sorted; {client.llen(queue)} messages are not")
    assert sorted(name for name in client.hkeys(tenants) if b":" in name) == [b"t:1", b"t:7"]
