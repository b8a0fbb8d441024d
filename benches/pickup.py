"""How soon an idle worker starts a task.

A task is enqueued by a real `apply_async` every 20 to 50 ms, always after the one before it has ended. The task is
`bench.tasks.record`, which takes `time.time()` in its first lines and writes it to a file. Producer and worker share the
clock. The wait is told from three moments: `call`, just before `apply_async` was called, with all of the producer's work
in it; `push`, just before the producer's client writes its LPUSH to the socket, which is the worker's own part and the figure
to compare; and
`return`, just after `apply_async` returned, which may be negative, as a worker can be quicker than Redis's answer to
the producer and what that does with it.
"""
import json
import random
import time
from contextlib import contextmanager

from harness.waiting import eventually
from messages import percentile, remaining
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


@contextmanager
def note_pushes(times):
    """Append the time of each message that the producer in this process sends to Redis."""
    from redis.connection import Connection

    send = Connection.send_packed_command

    def noted(connection, command, *arguments, **options):
        if b"\r\nLPUSH\r\n" in command[0][:32]:
            times.append(time.time())
        return send(connection, command, *arguments, **options)

    Connection.send_packed_command = noted
    try:
        yield
    finally:
        Connection.send_packed_command = send


def one_turn(app, system, count, dice):
    """Waits of each task since its call, its push and its return, in seconds."""
    from bench.tasks import record
    from imgbackend.routing import enqueue_task_to_user_queue

    with stage(system, app) as setting:
        setting.start_warm(WARM_UP)
        ledger = setting.directory / "ledger"
        called, pushed, returned = [], [], []
        with note_pushes(pushed):
            for number in range(count):
                time.sleep(dice.uniform(*PAUSE))
                user = dice.randrange(1000)
                called.append(time.time())
                enqueue_task_to_user_queue(record, user, user, number, str(ledger))
                returned.append(time.time())
        eventually(lambda: remaining(setting.client) == 0 and len(lines(ledger)) == 2 * count, what="tasks to end")
        starts = {line["n"]: line["time"] for line in lines(ledger) if line["event"] == "start"}
    moments = zip(called, pushed, returned, strict=True)
    return [tuple(starts[number] - moment for moment in of) for number, of in enumerate(moments)]


def lines(ledger):
    """What the tasks have written."""
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def summary(waits):
    """Milliseconds."""
    figures = {"tasks": len(waits)}
    for name, values in zip(("call", "push", "return"), zip(*waits, strict=True), strict=True):
        figures[name] = {f"p{share}": percentile(values, share / 100) * 1000 for share in (50, 99)}
    return figures
