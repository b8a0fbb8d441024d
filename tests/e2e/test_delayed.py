"""Messages that wait for their time: each starts once, however many workers race, and whoever was down at that moment."""
import datetime
import json

from harness.broker import message, stored, wait_settled
from harness.waiting import eventually

from imgbackend.routing import get_queue_for_user

COUNT = 300
PATIENCE = 60


def put_aside(client, ledger):
    """So many tasks, all due at the same instant, in the delayed set; that instant and their ids.

    They are pushed as a producer does, but all at once: on a busy machine their time must not come before the last is there.
    """
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=15)
    sent = []
    for n in range(COUNT):
        queue = get_queue_for_user(n % 7)
        raw = message("bench.tasks.record", (n % 7, n, str(ledger)), queue=queue, headers={"eta": due.isoformat()})
        client.lpush(queue, raw)
        sent.append(json.loads(raw)["headers"]["id"])
    eventually(lambda: client.zcard("fairstalk:delayed") == COUNT, PATIENCE, lambda: str(client.zcard("fairstalk:delayed")))
    assert not ledger.lines()
    return due.timestamp(), sent


def check(client, ledger, due, sent):
    """Each has started once, none before its time, and its result is there."""
    ledger.wait("end", COUNT, PATIENCE)
    wait_settled(client)
    assert sorted(ledger.numbers("start")) == list(range(COUNT))
    assert min(line["time"] for line in ledger.lines("start")) >= due
    assert [stored(client, task)["result"] for task in sent] == list(range(COUNT))
    assert not client.exists("fairstalk:delayed", "fairstalk:delayed:messages", "fairstalk:dead")


def test_many_workers_race(celery_app, fairstalk, client, ledger):
    """Eight workers of two daemons, and three hundred messages that are due in the same millisecond."""
    for _ in range(2):
        fairstalk(workers={"processes": 4, "concurrency": 1})
    check(client, ledger, *put_aside(client, ledger))


def test_due_while_everything_was_down(celery_app, fairstalk, client, ledger):
    """Everything was killed before their time came; whoever starts then runs them at once."""
    daemon = fairstalk()
    due, sent = put_aside(client, ledger)
    daemon.clear_away()
    eventually(lambda: client.time()[0] > due, PATIENCE)
    assert client.zcard("fairstalk:delayed") == COUNT
    for _ in range(2):
        fairstalk(workers={"processes": 2, "concurrency": 2}, wait=False)
    check(client, ledger, due, sent)


def test_what_expires_while_it_waits_does_not_run(celery_app, fairstalk, client, ledger):
    """Before its time, or after it while no worker is there; with an offset, or without one, as in the application's zone."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1})
    now = datetime.datetime.now(datetime.UTC)
    eta, expires = now + datetime.timedelta(seconds=4), now + datetime.timedelta(seconds=6)
    local = expires.astimezone(celery_app.timezone).replace(tzinfo=None)
    sent = []
    for n, (late, end) in enumerate([(now + datetime.timedelta(seconds=7), expires), (eta, expires), (eta, local), (eta, None)]):
        headers = {"eta": late.isoformat(), "expires": end and end.isoformat()}
        client.lpush("queue_3", message("bench.tasks.record", (1, n, str(ledger)), headers={"id": f"late-{n}", **headers}))
        sent.append(f"late-{n}")
    eventually(lambda: client.zcard("fairstalk:delayed") == len(sent), PATIENCE)
    daemon.clear_away()
    eventually(lambda: client.time()[0] > (expires.timestamp() + 2), PATIENCE)
    fairstalk()
    eventually(lambda: all(stored(client, task) for task in sent), PATIENCE)
    wait_settled(client)
    assert [stored(client, task)["status"] for task in sent] == ["REVOKED", "REVOKED", "REVOKED", "SUCCESS"]
    assert ledger.numbers("start") == [3]


def test_many_are_put_aside_at_a_time(fairstalk, client):
    """They need no slot, so it doesn't matter that there is one only."""
    count = 2000
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    raw = [message("bench.tasks.noop", (1,), queue="queue_3", headers={"eta": due.isoformat()}) for _ in range(count)]
    client.rpush("queue_3", *raw)
    fairstalk(workers={"processes": 1, "concurrency": 1})
    eventually(lambda: client.zcard("fairstalk:delayed") == count, PATIENCE, lambda: str(client.zcard("fairstalk:delayed")))
    # One for each message is what it would take with one slot.
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] < count / 8
    kept = [json.loads(text.rsplit(b"\0", 1)[1]) for text in client.hvals("fairstalk:delayed:messages")]
    assert {text["headers"]["id"] for text in kept} == {json.loads(text)["headers"]["id"] for text in raw}
    assert not client.exists("unacked", "queue_3")
