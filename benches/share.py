"""How running time is shared between users who all have enough to do, with tasks that differ twenty-fold in length.

Running time is what the ledger of `bench.tasks.record` says, first line of a task to its last, cut to the stretch that is
measured. It begins some seconds after the first task. Each user's backlog, pushed whole, one user's after the other's,
would keep all slots busy for longer than that. Jain's index is 1 if all have the same, 1/n if one of n has everything.
"""
import math
import time
from itertools import islice

from harness.waiting import eventually
from messages import Template, flood, users_beside
from pickup import lines
from quiet import BULK_USER
from systems import SLOTS, Daemon, Stock, StockAtBest, stage

# Seconds of each task of the first, the second, … user.
DURATIONS = [0.4, 0.02, 0.1, 0.2, 0.05]
WEIGHTS = [1, 2, 4]
WEIGHTED = 0.05
# Seconds after the first start that don't count, and what backlogs are larger than could be used up.
SETTLE, MORE = 3.0, 1.1
START_PATIENCE = 60.0


def placements():
    """Users for DURATIONS: all in one queue, each in another, three and two."""
    from imgbackend.routing import get_queue_for_user

    sharing = [BULK_USER, *islice(users_beside(BULK_USER, True), len(DURATIONS) - 1)]
    apart = {}
    for user in users_beside(BULK_USER, False):
        apart.setdefault(get_queue_for_user(user), user)
        if len(apart) == len(DURATIONS):
            break
    apart = list(apart.values())
    return {"mixed": sharing[:3] + apart[:2], "together": sharing, "apart": apart}


def measure(app, sizes, say):
    """All systems with users in queues of both kinds; fairstalk also with all in one queue, each in another, and weights."""
    figures = {"seconds": sizes.share_seconds, "durations": DURATIONS, "placements": {}}
    systems = {"mixed": (Stock(), StockAtBest(), Daemon()), "together": (Daemon(),), "apart": (Daemon(),)}
    for placement, users in placements().items():
        figures["placements"][placement] = {}
        for system in systems[placement]:
            used = one_run(app, system, dict(zip(users, DURATIONS, strict=True)), sizes.share_seconds)
            figures["placements"][placement][system.key] = {"jain": jain(used), "used": used}
            say(f"share, {placement}: {system.title} Jain {jain(used):.4f}")
    users = placements()["mixed"][2:]
    weights = {str(user): weight for user, weight in zip(users, WEIGHTS, strict=True)}
    used = one_run(app, Daemon(tenancy={"weights": weights}), dict.fromkeys(users, WEIGHTED), sizes.share_seconds)
    fair = [sum(used) * weight / sum(WEIGHTS) for weight in WEIGHTS]
    off = max(abs(took / due - 1) for took, due in zip(used, fair, strict=True))
    figures["weights"] = {"weights": WEIGHTS, "used": used, "off": off}
    say(f"share, weights {WEIGHTS}: at most {100 * off:.1f} % off")
    return figures


def one_run(app, system, users, seconds):
    """Seconds that each user's tasks ran; `users` maps them to the length of their tasks."""
    from bench.tasks import record

    with stage(system, app) as setting:
        ledger = setting.directory / "ledger"
        for user, task in users.items():
            template = Template(setting.client, record, user, n=0, path=str(ledger), seconds=task)
            flood(setting.client, template, math.ceil(MORE * SLOTS * (SETTLE + seconds) / task))
        setting.start()
        eventually(lambda: ledger.exists(), START_PATIENCE, "the first task")
        begin = time.time() + SETTLE
        time.sleep(SETTLE + seconds)
        written = lines(ledger)
    return list(running_time(written, users, begin, begin + seconds).values())


def running_time(written, users, begin, end):
    """Of the stretch; what still runs at the end has no last line."""
    started = {line["task"]: line for line in written if line["event"] == "start"}
    ended = {line["task"]: line["time"] for line in written if line["event"] == "end"}
    used = dict.fromkeys(users, 0.0)
    for task, line in started.items():
        used[line["user"]] += max(0.0, min(end, ended.get(task, end)) - max(begin, line["time"]))
    return used


def jain(used):
    """Jain's index of fairness."""
    return sum(used) ** 2 / (len(used) * sum(seconds**2 for seconds in used)) if any(used) else 0.0
