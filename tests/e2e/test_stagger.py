"""Slots that began together don't go on ending together."""
from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

BULK, COUNT, SLOTS = 1, 400, 4


def test_slots_that_began_together_get_out_of_step(celery_app, fairstalk, ledger):
    """All slots find a bulk job at once, and all of its tasks take equally long. Soon one slot ends after the other, and its
    next task begins before another one ends: who comes then finds a slot after a part of a task, not after a whole one."""
    for n in range(COUNT):
        enqueue_task_to_user_queue(tasks.record, BULK, BULK, n, str(ledger), seconds=0.05)
    fairstalk(workers={"processes": 1, "concurrency": SLOTS}, tenancy={"parameter": "user_id"})
    ledger.wait("end", COUNT, timeout=90)
    events = [line["event"] for line in ledger.lines()]
    events = events[len(events) // 4 : -2 * SLOTS]
    ends = events.count("end")
    together = sum(pair == ("end", "end") for pair in zip(events, events[1:], strict=False))
    assert together < ends / 4, f"{together} of {ends} ends met another one"
