"""How soon an idle worker starts a task.

A task is enqueued by a real `apply_async` every 20 to 50 ms, always after the one before it has ended. The task is
`bench.tasks.record`, which takes `time.time()` in its first lines and writes it to a file. Producer and worker share the
clock. The wait is told from just after `apply_async` returned, and from just before it was called: the first may be
negative, as a worker can be quicker than Redis's answer to the producer.
"""
import json
import random
import time

from harness.waiting import eventually
from messages import remaining, warm_up
from systems import Daemon, Stock, stage

WARM_UP = 40
PAUSE = (0.020, 0.050)


def measure(app, sizes, say):
    """Both systems by turns; the waits of all turns are pooled."""
    systems = [Stock(), Daemon()]
    waits = {system.key: [] for system in systems}
    for turn in range(sizes.turns):
        for system in systems:
            waits[system.key] += one_turn(app, system, sizes.pickups // sizes.turns, random.Random(turn))
            say(f"pick-up {turn + 1}/{sizes.turns}: {system.title}")
    return {key: summary(taken) for key, taken in waits.items()}


def one_turn(app, system, count, dice):
    """(wait since the call, wait since its return) of each task, in seconds."""
    from bench.tasks import record
    from imgbackend.routing import enqueue_task_to_user_queue

    with stage(system, app) as setting:
        setting.start()
        setting.wait_ready()
        warm_up(setting.client, WARM_UP)
        ledger = setting.directory / "ledger"
        calls = []
        for number in range(count):
            time.sleep(dice.uniform(*PAUSE))
            user = dice.randrange(1000)
            called = time.time()
            enqueue_task_to_user_queue(record, user, user, number, str(ledger))
            calls.append((called, time.time()))
        eventually(lambda: remaining(setting.client) == 0 and len(lines(ledger)) == 2 * count, what="tasks to end")
        starts = {line["n"]: line["time"] for line in lines(ledger) if line["event"] == "start"}
    return [(starts[number] - called, starts[number] - sent) for number, (called, sent) in enumerate(calls)]


def lines(ledger):
    """What the tasks have written."""
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def percentile(values, share):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(waits):
    """Milliseconds."""
    since_call, since_return = zip(*waits, strict=True)
    figures = {"tasks": len(waits)}
    for name, values in (("call", since_call), ("return", since_return)):
        figures[name] = {f"p{share}": percentile(values, share / 100) * 1000 for share in (50, 99)}
    return figures
