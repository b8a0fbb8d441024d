"""The application of the campaign: one task that writes down what happens to it, and knows every way to come back.

No Django: a zygote that is killed every few seconds has to be there again soon.
"""
import json
import os
import time

from celery import Celery
from kombu import Queue

#: Few, so that of eight users some share one.
QUEUES = [f"queue_{number}" for number in range(4)]

#: A running task shows itself so often, seconds: a twin that has written nothing else is seen by that.
TICK = 0.1

#: Seconds after which the claims of a stock worker count as lost.
VISIBILITY = 12

app = Celery(
    "application", broker=os.environ.get("CHAOS_BROKER"), backend=os.environ.get("CHAOS_BROKER"),
    set_as_current=False,  # the other tests of the process have their own
)
app.conf.update(
    task_queues=[Queue(name) for name in QUEUES],
    task_default_queue=QUEUES[0],
    task_create_missing_queues=False,
    broker_connection_retry_on_startup=True,
    # For the stock workers of the mixed fleet; fairstalk does so anyway.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # What a stock worker held that was killed is restored after this; longer than any task takes.
    broker_transport_options={"visibility_timeout": VISIBILITY},
)


def note(event, request, user, n):
    """One line in the ledger, in one write: lines of many processes never mix, and a kill leaves whole lines.

    A file and not a second Redis: the write needs no server, no connection and no time-out, is there for good as soon
    as the system call is made, whoever is killed then, and the kernel puts all lines into one order.
    """
    line = {
        "event": event, "task": request.id, "tag": request.properties["delivery_tag"], "retries": request.retries,
        "redelivered": bool(request.delivery_info.get("redelivered")),
        "deliveries": (request.properties.get("delivery_info") or {}).get("deliveries", 0),
        "user": user, "n": n, "pid": os.getpid(), "node": request.hostname, "time": time.monotonic(),
    }
    file = os.open(os.environ["CHAOS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@app.task(bind=True, name="chaos.work")
def work(self, user_id, n, seconds=0.0, retries=0, countdown=0.0):
    """Takes so long, asks for so many retries, then ends."""
    note("start", self.request, user_id, n)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, TICK))
        if left > TICK:
            note("tick", self.request, user_id, n)
    if self.request.retries < retries:
        note("retry", self.request, user_id, n)
        raise self.retry(countdown=countdown, max_retries=retries)
    note("end", self.request, user_id, n)
    return n
