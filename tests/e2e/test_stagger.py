"""Slots that began together don't go on ending together, where the operator says so; else none ever rests."""
from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

BULK, COUNT, SLOTS = 1, 400, 4
DEBUG = {"format": "text", "level": "debug"}


def bulk(ledger, count):
    """So many tasks that take equally long."""
    for n in range(count):
        enqueue_task_to_user_queue(tasks.record, BULK, BULK, n, str(ledger), seconds=0.05)


def rests(daemon):
    """Lines that tell of a slot's rest."""
    return [line for line in daemon.log().splitlines() if " slot " in line and " rests for " in line]


def test_slots_that_began_together_get_out_of_step(celery_app, fairstalk, ledger):
    """All slots find a bulk job at once, and all of its tasks take equally long. Soon one slot ends after the other, and its
    next task begins before another one ends: who comes then finds a slot after a part of a task, not after a whole one."""
    bulk(ledger, COUNT)
    fairstalk(workers={"processes": 1, "concurrency": SLOTS}, tenancy={"stagger": True})
    ledger.wait("end", COUNT, timeout=90)
    events = [line["event"] for line in ledger.lines()]
    events = events[len(events) // 4 : -2 * SLOTS]
    ends = events.count("end")
    together = sum(pair == ("end", "end") for pair in zip(events, events[1:], strict=False))
    assert together < ends / 4, f"{together} of {ends} ends met another one"


def test_no_slot_rests_unless_told_to(celery_app, fairstalk, ledger):
    """A bulk job with the defaults; the same once more after a reload with the key. Each finds all slots at once."""
    bulk(ledger, COUNT // 4)
    daemon = fairstalk(workers={"processes": 1, "concurrency": SLOTS}, log=DEBUG)
    ledger.wait("end", COUNT // 4, timeout=90)
    assert not rests(daemon)
    assert daemon.call("pause", BULK).returncode == 0
    bulk(ledger, COUNT // 4)
    daemon.configure(daemon.config_file.read_text().replace("[tenancy]", '[tenancy]\n"stagger" = true'))
    done = daemon.call("reload", "--pid", daemon.pid)
    assert (done.returncode, done.stdout) == (0, "reloaded; changed: tenancy.stagger\n"), done.stderr
    assert daemon.call("resume", BULK).returncode == 0
    ledger.wait("end", COUNT // 2, timeout=90)
    assert rests(daemon)
