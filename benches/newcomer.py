"""How soon a newcomer starts while one user's long tasks would take every slot, with `reserved_slots = 1`.

Every few hundred milliseconds another user, in turn in the bulk user's queue and in another one, calls one short task.
"""
import random
import time

from harness.waiting import eventually
from messages import Template, flood, users_beside
from pickup import lines
from quiet import BULK_USER, WARM_UP, spread, wait_started
from systems import SLOTS, Daemon, Stock, StockAtBest, stage

TASK = 5.0
# Enough to keep four slots busy for so many seconds longer than newcomers come.
BACKLOG = 5.0
PAUSE = (0.2, 0.3)
PATIENCE = 60.0


def measure(app, sizes, say):
    """Waits in seconds; with stock Celery nothing can be reserved."""
    figures = {}
    for system in (Stock(), StockAtBest(), Daemon(tenancy={"reserved_slots": 1})):
        figures[system.key] = one_run(app, system, sizes.newcomer_seconds)
        say(f"newcomer: {system.title}, wait at most {figures[system.key]['max']:.3f} s")
    return figures


def one_run(app, system, seconds):
    """Waits since just before the call."""
    from bench.tasks import record
    from imgbackend.routing import enqueue_task_to_user_queue

    with stage(system, app) as setting:
        bulk, ledger = setting.directory / "bulk", setting.directory / "ledger"
        template = Template(setting.client, record, BULK_USER, n=0, path=str(bulk), seconds=TASK)
        setting.start_warm(WARM_UP)
        flood(setting.client, template, round(SLOTS * (seconds + BACKLOG) / TASK))
        eventually(lambda: len(lines(bulk)) >= 3, PATIENCE, "long tasks to run")
        users, dice, called = [users_beside(BULK_USER, shares) for shares in (True, False)], random.Random(1), []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(dice.uniform(*PAUSE))
            user = next(users[len(called) % 2])
            called.append(time.time())
            enqueue_task_to_user_queue(record, user, user, len(called) - 1, str(ledger), seconds=0.0)
        starts = wait_started(ledger, len(called))
    return spread([starts[number] - at for number, at in enumerate(called)])
