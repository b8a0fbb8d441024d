"""How much memory four slots take: PSS of the whole process tree, idle after 200 tasks. Redis is not in it.

PSS counts what a process has alone in full, and of what several share, each one's part; so it can be summed. This
program runs the same Python and takes a small part of the interpreter's files, of Celery's sum as of fairstalk's.
"""
from collections import Counter

from messages import warm_up
from probes import pss
from systems import Daemon, Stock, stage

WARM_UP = 200


def measure(app, sizes, say):
    """Median of the sums, with the parts of that run."""
    figures = {}
    for system in (Stock(), Daemon()):
        runs = sorted((one_run(app, system) for _ in range(sizes.memory_repeat)), key=lambda run: sum(run[0].values()))
        parts, processes = runs[len(runs) // 2]
        figures[system.key] = {
            "bytes": sum(parts.values()),
            "sums": [sum(run[0].values()) for run in runs],
            "by_kind": dict(parts),
            "processes": dict(processes),
        }
        say(f"memory: {system.title} {figures[system.key]['bytes'] / 2**20:.1f} MiB")
    return figures


def one_run(app, system):
    """Bytes and number of processes, by kind."""
    with stage(system, app) as setting:
        setting.start()
        setting.wait_ready()
        warm_up(setting.client, WARM_UP)
        kinds = setting.kinds()
        parts, processes = Counter(), Counter()
        for pid, kind in kinds.items():
            parts[kind] += pss(pid)
            processes[kind] += 1
    return parts, processes
