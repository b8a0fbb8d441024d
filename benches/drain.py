"""How many tasks per second four slots get through, and what each of them costs.

The queues are filled first, then the worker is started. Only the stretch from 10 % to 90 % of the messages counts:
starting up and the last few tasks have figures of their own (`startup`, `pickup`), and neither system can be helped or
hurt by when it calls itself ready. Progress is the number of messages in the queues, in fairstalk's lanes and in
`unacked`, which falls when one is acknowledged: Celery acknowledges when a child accepts a task, fairstalk when its end is
recorded. Over thousands of tasks with at most some dozens on their way that difference vanishes. CPU time and the counters of Redis are read at
the same two moments, so that they belong to the same tasks.
"""
import statistics
import time

import probes
from messages import IN_LANES, check_empty, check_results, fill, no_other_places, users_of_queues
from systems import Stock, layouts, stage

LOOK_EVERY = 0.01
TIMEOUT = 600.0
PARTS = {
    "parent": "parent", "children": "python",
    "supervisor": "worker", "workers": "worker", "zygote": "python", "runners": "python",
}


def measure(app, sizes, say):
    """All systems and kinds of tasks, repetition by repetition so that a busy minute hits all of them."""
    from bench.tasks import noop, noop_result

    kinds = {"noop": (noop, sizes.noop), "noop_result": (noop_result, sizes.noop_result)}
    systems = [Stock(), *layouts()[: sizes.layouts]]
    runs = {kind: {system.key: [] for system in systems} for kind in kinds}
    for repetition in range(sizes.repeat):
        for kind, (task, count) in kinds.items():
            for system in systems:
                run = one_run(app, system, task, count)
                runs[kind][system.key].append(run)
                say(f"drain {repetition + 1}/{sizes.repeat} {kind}: {system.title} {run['rate']:.0f} tasks/s")
    figures = {}
    for kind, of in runs.items():
        figures[kind] = {key: summary(taken, kinds[kind][1]) for key, taken in of.items()}
        for figure in figures[kind].values():
            figure["ratio"] = figure["rate"] / figures[kind]["celery"]["rate"]
    return figures


def one_run(app, system, task, count, users=None):
    """Fill, start, watch, check."""
    with stage(system, app) as setting:
        ids = fill(setting.client, task, count, users)
        setting.start()
        gauge = probes.Gauge(setting.redis.socket, users_of_queues(), ["unacked"], [IN_LANES])
        try:
            first, last = watch(setting, gauge, count)
        finally:
            gauge.close()
        check_empty(setting.client)
        check_results(setting.client, [] if task.ignore_result else ids)
    return per_task(first, last)


def watch(setting, gauge, count):
    """Look on until all is done. Returns what was read at 10 % and at 90 %."""
    counters = probes.Counters(setting.client, gauge)
    deadline = time.monotonic() + TIMEOUT
    points, kinds, left = [], None, count
    while left > 0:
        at, left = gauge.read()
        if len(points) < 2 and left <= count * (0.9, 0.1)[len(points)]:
            if kinds is None:
                no_other_places(setting.client, count)
                kinds = {pid: kind for pid, kind in setting.kinds().items() if kind in PARTS}
                kinds |= {setting.redis.process.pid: "redis"}
            # Taken again, because the look at the process table takes some milliseconds.
            at, left = gauge.read()
            points.append({"at": at, "left": left, "cpu": probes.cpu_by_kind(kinds), **counters.read()})
        if at > deadline or setting.worker.popen.poll() is not None:
            raise AssertionError(f"{left} of {count} left, {setting.worker.describe()}:\n{setting.worker.log()[-5000:]}")
        time.sleep(LOOK_EVERY)
    if len(points) < 2:
        raise AssertionError(f"{count} tasks are too few: they ended between two looks")
    return points


def per_task(first, last):
    """Rate, and per task: microseconds of CPU for each part, commands, scripts and requests."""
    tasks = first["left"] - last["left"]
    cpu = {"redis": 0.0, "worker": 0.0, "parent": 0.0, "python": 0.0}
    for kind, seconds in probes.difference(last["cpu"], first["cpu"]).items():
        cpu[PARTS.get(kind, kind)] += seconds * 1e6 / tasks
    counted = {name: (last[name] - first[name]) / tasks for name in ("commands", "scripts", "requests", "script_usec")}
    return {"rate": tasks / (last["at"] - first["at"]), "cpu_usec": cpu, **counted}


def summary(runs, count):
    """Medians, and the rate of each run."""

    def middle(name):
        return statistics.median(run[name] for run in runs)

    return {
        "tasks": count,
        "rate": middle("rate"),
        "rates": [run["rate"] for run in runs],
        "cpu_usec": {part: statistics.median(run["cpu_usec"][part] for run in runs) for part in runs[0]["cpu_usec"]},
        **{name: middle(name) for name in ("commands", "scripts", "requests", "script_usec")},
    }
