"""The way back after a crash of everything: nothing of fairstalk runs, and a stock worker finishes what there is."""
from harness.broker import call_of, message, waiting
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

#: They share a queue.
USERS = (1, 47, 75)
EACH = 12
HANDED_BACK = 75


def test_a_stock_worker_finishes_everything(celery_app, fairstalk, stock_worker, client, ledger):
    """Claimed, in lanes, not yet seen, and delayed: all of it, and each user's in order."""
    daemon = fairstalk()
    assert len({get_queue_for_user(user) for user in USERS}) == 1
    for n in range(EACH):
        for user in USERS:
            enqueue_task_to_user_queue(tasks.record, user, user, n, str(ledger), seconds=0.3)
    later = tasks.record.apply_async((9, 0, str(ledger)), countdown=10)
    ledger.wait("end", 8)
    eventually(lambda: client.zcard("fairstalk:delayed") == 1 and client.hlen("unacked") == 4)
    daemon.clear_away()

    refused = daemon.call("hand-back")
    assert refused.returncode == HANDED_BACK, refused
    assert "a worker lives" in refused.stderr and "--force" in refused.stderr
    assert client.hlen("unacked") == 4, "nothing was changed"
    done = daemon.call("hand-back", "--force")
    assert done.returncode == 0, done
    assert done.stdout.startswith("put back 4 claims of 2 workers"), done.stdout
    assert client.keys("fairstalk:*") == [] and client.keys("unacked*") == []

    ended = {user: ledger.numbers("end", user) for user in USERS}
    begun = {user: ledger.numbers("start", user) for user in USERS}
    queue = waiting(client, get_queue_for_user(1))
    again = [message for message in queue if message["headers"].get("redelivered")]
    assert len(again) == 4 and again == queue[:4], "what had been claimed comes first"
    for user in USERS:
        numbers = [call_of(message)[0][1] for message in queue if call_of(message)[0][0] == user]
        assert numbers == sorted(set(range(EACH)) - set(ended[user])), user
        assert {call_of(message)[0][1] for message in again if call_of(message)[0][0] == user} == set(
            begun[user]
        ) - set(ended[user])

    with stock_worker("-c", "1"):
        ledger.wait("end", len(USERS) * EACH + 1, 60)
        later.get(timeout=30)
    for user in USERS:
        assert sorted(ledger.numbers("end", user)) == list(range(EACH))


def test_what_was_started_for_good(celery_app, fairstalk, client, ledger):
    """Delivered at most once and started: a dead letter. What is delivered at least once goes back, as always."""
    daemon = fairstalk(**{'tasks."bench.tasks.record"': {"delivery": "at-most-once"}})
    once = tasks.record.apply_async((1, 1, str(ledger), 60), queue=get_queue_for_user(1))
    ledger.wait("start", 1)
    again = tasks.sleep.apply_async((60,), queue="queue_0")
    eventually(lambda: client.hlen("unacked") == 1)
    daemon.clear_away()

    done = daemon.call("hand-back", "--force")
    assert done.returncode == 0, done
    assert done.stdout.startswith("put back 1 claims of 2 workers"), done.stdout
    assert "\n1 had been started" in done.stdout, done.stdout
    (letter,) = daemon.dead_letters()
    named = {key: letter[key] for key in ("reason", "id", "task", "queue")}  # it was claimed unseen: no tenant
    assert named == {
        "reason": "at-most-once", "id": once.id, "task": "bench.tasks.record", "queue": get_queue_for_user(1),
    }
    assert waiting(client, get_queue_for_user(1)) == []
    assert [message["headers"]["id"] for message in waiting(client, "queue_0")] == [again.id]
    assert {key.decode() for key in client.keys("fairstalk:*")} == {
        "fairstalk:dead", "fairstalk:dead:messages", "fairstalk:dead:entries",
    }
    assert client.keys("unacked*") == []


def test_what_kills_its_workers(celery_app, fairstalk, client):
    """Under fairstalk the next worker would put it aside; a stock worker would run it again and again."""
    daemon = fairstalk()
    killers = [message("bench.tasks.sleep", (60,), properties={"delivery_info": {
        "exchange": "", "routing_key": "queue_0", "deliveries": deaths,
    }}) for deaths in (1, 2)]
    client.lpush("queue_0", *killers)
    eventually(lambda: client.hlen("unacked") == 2)
    daemon.clear_away()
    done = daemon.call("hand-back", "--force")
    assert done.returncode == 0, done
    assert done.stdout.startswith("put back 1 claims") and "\n1 took their workers with them too often" in done.stdout
    (letter,) = daemon.dead_letters()
    assert (letter["reason"], letter["deliveries"], letter["task"]) == ("runner-lost", 2, "bench.tasks.sleep")
    (again,) = waiting(client, "queue_0")
    assert again["properties"]["delivery_info"]["deliveries"] == 2


def test_it_refuses_while_a_worker_lives(celery_app, fairstalk, client, ledger):
    """Even with --force, and even where the other one is stopped for a while: its lease is in force."""
    daemon = fairstalk()
    tasks.record.delay(1, 1, str(ledger), seconds=4)
    ledger.wait("start", 1)
    for options in ([], ["--force"]):
        refused = daemon.call("hand-back", *options)
        assert refused.returncode == HANDED_BACK, refused
        assert "a worker lives" in refused.stderr
    ledger.wait("end", 1)
    assert daemon.stop() == 0
    assert len(ledger.lines("start")) == 1
    done = daemon.call("hand-back")
    assert (done.returncode, done.stdout.split()[2]) == (0, "0"), done
