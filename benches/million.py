"""How long a newcomer waits behind a million messages of one user: while they are filed into lanes, and afterwards.

The messages are in one queue before the daemon starts. Until it has filed them all it can't know of a message that
came last into the same queue. Stock Celery is not measured: a newcomer in that queue would wait for hours.
"""
import time
from itertools import count

from messages import Template, flood, remaining, users_beside
from quiet import BULK_USER, TASK, spread, wait_started
from systems import Daemon, stage

EVERY = 0.25
TIMEOUT = 600.0


def measure(app, sizes, say):
    """Waits in seconds, since just before the call."""
    from bench.tasks import record, slow_noop
    from imgbackend.routing import enqueue_task_to_user_queue

    with stage(Daemon(), app) as setting:
        template = Template(setting.client, slow_noop, BULK_USER, seconds=TASK)
        flood(setting.client, template, sizes.million)
        ledger, newcomers = setting.directory / "ledger", {True: users_beside(BULK_USER, True)}
        newcomers[False] = users_beside(BULK_USER, False)
        called, numbers = {}, count()

        def call(shares, stretch):
            user, number = next(newcomers[shares]), next(numbers)
            called[number] = (time.time(), shares, stretch)
            enqueue_task_to_user_queue(record, user, user, number, str(ledger), seconds=0.0)

        begin = time.monotonic()
        setting.start()
        ready = setting.wait_ready()
        while setting.client.llen(template.queue) > 0:
            assert time.monotonic() < begin + TIMEOUT, f"{setting.client.llen(template.queue)} not yet filed"
            for shares in (False, True):
                call(shares, "during")
            time.sleep(EVERY)
        digested = time.monotonic() - begin
        say(f"million: {sizes.million} messages filed after {digested:.1f} s")
        for _ in range(sizes.newcomers):
            for shares in (False, True):
                call(shares, "after")
            time.sleep(EVERY)
        starts = wait_started(ledger, len(called))
        begin = time.monotonic()
        setting.worker.stop(TIMEOUT)
        stopped = time.monotonic() - begin
        waits, under_way = remaining(setting.client), setting.client.hlen("unacked")
        assert waits == setting.client.llen(template.queue) and under_way == 0, "not all was handed back"
    figures = {"messages": sizes.million, "ready": ready, "digested": digested, "stopped": stopped}
    for stretch in ("during", "after"):
        figures[stretch] = {}
        for place, shares in (("others", False), ("shared", True)):
            of = [starts[n] - at for n, (at, *kind) in called.items() if kind == [shares, stretch]]
            figures[stretch][place] = spread(of) if of else None
    return figures
