"""How long users with little to do wait while one user has ten thousand tasks waiting.

Twenty quiet users call tasks at random moments, together half of what four slots can do. Half of them share the
bulk user's queue. After some seconds the bulk user's tasks come at once. The wait of a task is from just before
`apply_async` is called to its first line (`bench.tasks.record`). Only what is called while bulk tasks wait counts; the
run goes on until all of it has started, so no wait is cut off. For comparison there is the wait that is left if whoever is
free takes the oldest call of a quiet user at once and nothing else takes any time (`ideal`). fairstalk runs twice: with its
defaults, and with `[tenancy] stagger`.
"""
import heapq
import random
import statistics
import time
from itertools import islice

from messages import Template, percentile, remaining, users_beside
from pickup import lines
from systems import SLOTS, Daemon, Stock, StockAtBest, stage

BULK_USER = 1
QUIET, SHARING = 20, 10
TASK = 0.05
LOAD = 0.5
# Seconds before the bulk job comes.
LEAD = 5.0
WARM_UP = 40
TIMEOUT = 900.0
PLACES = {"others": False, "shared": True}


def measure(app, sizes, say):
    """Each system once, with the same calls at the same moments."""
    figures = {}
    systems = {
        "celery": Stock(), "celery_best": StockAtBest(), "fairstalk": Daemon(),
        "stagger": Daemon(tenancy={"stagger": True}),
    }
    for key, system in systems.items():
        figures[key] = one_run(app, system, sizes)
        waits = ", ".join(f"{place} {figures[key][place]['p99']:.3f} s" for place in PLACES)
        say(f"quiet: {key}, wait of quiet users p99: {waits}")
    figures |= {"bulk": sizes.quiet_bulk, "seconds": sizes.quiet_seconds}
    figures["ideal"] = spread(ideal([at for at, *_ in calls(sizes.quiet_seconds)]))
    return figures


def calls(seconds):
    """(moment, user, whether in the bulk user's queue): the same for everybody."""
    sharing = list(islice(users_beside(BULK_USER, True), SHARING))
    users = [(user, True) for user in sharing]
    users += [(user, False) for user in islice(users_beside(BULK_USER, False), QUIET - SHARING)]
    dice, at, made = random.Random(1), 0.0, []
    while at < LEAD + seconds:
        made.append((at, *dice.choice(users)))
        at += dice.expovariate(LOAD * SLOTS / TASK)
    return made


def ideal(moments):
    """Waits of these calls where slots are never idle and nobody is faster; slots end tasks at random moments first."""
    dice, waits = random.Random(1), []
    for _ in range(20):
        ends = [dice.uniform(0, TASK) for _ in range(SLOTS)]
        heapq.heapify(ends)
        left = list(reversed(moments))
        while left:
            free = heapq.heappop(ends)
            if left[-1] <= free:
                waits.append(free - left.pop())
            heapq.heappush(ends, free + TASK)
    return waits


def one_run(app, system, sizes):
    """Waits in seconds, and how they were over time."""
    from bench.tasks import record, slow_noop
    from imgbackend.routing import enqueue_task_to_user_queue

    with stage(system, app) as setting:
        template = Template(setting.client, slow_noop, BULK_USER, seconds=TASK)
        setting.start_warm(WARM_UP)
        ledger = setting.directory / "ledger"
        plan, called, flooded = calls(sizes.quiet_seconds), [], None
        # Made before, so that no call is late for it: what is late comes at once, and waits for each other.
        bulk = [template.copy()[1] for _ in range(sizes.quiet_bulk)]
        begin = time.time()
        for number, (at, user, _) in enumerate(plan):
            time.sleep(max(0.0, begin + at - time.time()))
            if flooded is None and at >= LEAD:
                setting.client.lpush(template.queue, *bulk)
                flooded = time.time()
            called.append(time.time())
            enqueue_task_to_user_queue(record, user, user, number, str(ledger), seconds=TASK)
        assert remaining(setting.client) > SLOTS, "the bulk job was over before the quiet users had finished"
        starts = wait_started(ledger, len(plan))
    waits = [(moment - flooded, starts[n] - moment, plan[n][2]) for n, moment in enumerate(called)]
    late = max(moment - begin - at for moment, (at, *_) in zip(called, plan, strict=True))
    return {**summary(waits), "late": late}


def wait_started(ledger, count):
    """When each of so many tasks of `record` has started. Looks seldom, so as not to take the core of who works."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        starts = {line["n"]: line["time"] for line in lines(ledger) if line["event"] == "start"}
        if len(starts) == count:
            return starts
        assert time.monotonic() < deadline, f"{count - len(starts)} of {count} tasks have not started"
        time.sleep(0.5)


def summary(waits):
    """Waits since the bulk job came; and of each second of calls the shortest, the median and the longest wait."""
    figures = {"over_time": {}}
    for place, shares in PLACES.items():
        of = [(at, wait) for at, wait, shared in waits if shared == shares]
        figures[place] = spread([wait for at, wait in of if at >= 0])
        seconds = {}
        for at, wait in of:
            seconds.setdefault(int(at // 1), []).append(wait)
        figures["over_time"][place] = [
            [second, min(taken), statistics.median(taken), max(taken)] for second, taken in sorted(seconds.items())
        ]
    figures["ratio"] = figures["shared"]["p99"] / figures["others"]["p99"]
    return figures


def spread(waits):
    """Seconds."""
    return {"tasks": len(waits), "p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99), "max": max(waits)}
