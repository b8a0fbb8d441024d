"""Messages that wait for their time: each starts once, however many workers race, and whoever was down at that moment."""
import datetime

from harness.broker import stored, wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import get_queue_for_user

COUNT = 300
PATIENCE = 60


def put_aside(client, ledger, seconds):
    """So many tasks, all due at the same instant, in the delayed set; that instant and their results."""
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    sent = [
        tasks.record.apply_async((n % 7, n, str(ledger)), queue=get_queue_for_user(n % 7), eta=due) for n in range(COUNT)
    ]
    eventually(lambda: client.zcard("fairstalk:delayed") == COUNT, PATIENCE, lambda: str(client.zcard("fairstalk:delayed")))
    assert not ledger.lines()
    return due.timestamp(), sent


def check(client, ledger, due, sent):
    """Each has started once, none before its time, and its result is there."""
    ledger.wait("end", COUNT, PATIENCE)
    wait_settled(client)
    assert sorted(ledger.numbers("start")) == list(range(COUNT))
    assert min(line["time"] for line in ledger.lines("start")) >= due
    assert [stored(client, task.id)["result"] for task in sent] == list(range(COUNT))
    assert not client.exists("fairstalk:delayed", "fairstalk:delayed:messages", "fairstalk:dead")


def test_many_workers_race(celery_app, fairstalk, client, ledger):
    """Eight workers of two daemons, and three hundred messages that are due in the same millisecond."""
    for _ in range(2):
        fairstalk(workers={"processes": 4, "concurrency": 1})
    check(client, ledger, *put_aside(client, ledger, seconds=6))


def test_due_while_everything_was_down(celery_app, fairstalk, client, ledger):
    """Everything was killed before their time came; whoever starts then runs them at once."""
    daemon = fairstalk()
    due, sent = put_aside(client, ledger, seconds=6)
    daemon.clear_away()
    eventually(lambda: client.time()[0] > due, PATIENCE)
    assert client.zcard("fairstalk:delayed") == COUNT
    for _ in range(2):
        fairstalk(workers={"processes": 2, "concurrency": 2}, wait=False)
    check(client, ledger, due, sent)
