"""How soon a task starts while slots are mostly busy.

Tasks of 50 ms are called, 80 % of what four slots can do: one after the other at even distances; then at random moments, all by
one user, then by twenty of whom nobody floods. The wait of a task is from just before the producer sends its LPUSH to its first line (`bench.tasks.record`), as in `pickup.py`. At random moments most of it is no
worker's fault: at such a load all slots are busy for some moments, and who calls then has to wait for one. So beside it
stands what is left if tasks were all that takes time (`ideal`): the same calls at the same moments, whoever is free takes
the oldest at once. The excess is the difference, of each percentile. With twenty users fairstalk does not always take the
oldest: those within their credit are served in the order in which they came, and before others.
"""
import heapq
import random
import time

from messages import percentile
from pickup import note_pushes
from quiet import wait_started
from systems import SLOTS, Daemon, Stock, stage

#: Users, and whether they call at random moments.
CALLERS = {"even": (1, False), "one": (1, True), "twenty": (20, True)}
TASK = 0.05
LOAD = 0.8
WARM_UP = 40


def measure(app, sizes, say):
    """Each system once, with the same calls at the same moments."""
    figures = {"seconds": sizes.steady_seconds}
    for key, (users, random_moments) in CALLERS.items():
        plan, figures[key] = calls(sizes.steady_seconds, users, random_moments), {}
        for system in (Stock(), Daemon()):
            waits, moments = one_run(app, system, plan)
            of = {"ideal": spread(ideal(moments)), **spread(waits)}
            figures[key][system.key] = of
            say(f"steady: {system.title}, callers: {key}, wait p99 {of['p99']:.1f} ms, ideal {of['ideal']['p99']:.1f} ms")
    return figures


def calls(seconds, users, random_moments):
    """(moment, user): the same for everybody."""
    dice, at, made, rate = random.Random(1), 0.0, [], LOAD * SLOTS / TASK
    while at < seconds:
        made.append((at, dice.randrange(1, users + 1)))
        at += dice.expovariate(rate) if random_moments else 1 / rate
    return made


def ideal(moments):
    """Waits of these calls in slots that are never idle while one waits, and lose no time."""
    ends, waits = [0.0] * SLOTS, []
    for at in moments:
        begin = max(at, heapq.heappop(ends))
        heapq.heappush(ends, begin + TASK)
        waits.append(begin - at)
    return waits


def one_run(app, system, plan):
    """Waits in seconds, and when the messages were really sent, which is never just when they should be."""
    from bench.tasks import record
    from imgbackend.routing import enqueue_task_to_user_queue

    with stage(system, app) as setting:
        setting.start_warm(WARM_UP)
        ledger, pushed = setting.directory / "ledger", []
        with note_pushes(pushed):
            begin = time.time()
            for number, (at, user) in enumerate(plan):
                time.sleep(max(0.0, begin + at - time.time()))
                enqueue_task_to_user_queue(record, user, user, number, str(ledger), seconds=TASK)
        starts = wait_started(ledger, len(plan))
    return [starts[number] - moment for number, moment in enumerate(pushed)], pushed


def spread(waits):
    """Milliseconds."""
    return {"tasks": len(waits), **{f"p{share}": percentile(waits, share / 100) * 1000 for share in (50, 90, 99)}}
