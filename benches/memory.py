"""How much memory slots take: PSS of the whole process tree, idle after some tasks. Redis is not in it.

PSS counts what a process has alone in full, and of what several share, each one's part; so it can be summed. This
program runs the same Python and takes a small part of the interpreter's files, of Celery's sum as of fairstalk's.

The application has 300 modules of its own, as one that has grown for years: they are made for it.
"""
import tempfile
from collections import Counter
from pathlib import Path

from probes import pss
from systems import Daemon, Stock, stage

MODULES = 300
#: Tasks for each slot before it is measured.
WARM_UP = 50


def measure(app, sizes, say):
    """Median of the sums, with the parts of that run; under `many` the same with sixteen slots."""
    figures = {"many": {}, "modules": MODULES}
    with tempfile.TemporaryDirectory(prefix="fairstalk-bench-") as directory:
        environment = grow(Path(directory))
        for slots, into, systems in ((4, figures, (Stock(), Daemon())), (16, figures["many"], (Stock(16), Daemon(4, 4)))):
            for system in systems:
                into[system.key] = one_system(app, system, slots, environment, sizes.memory_repeat)
                say(f"memory: {system.title}, {slots} slots: {into[system.key]['bytes'] / 2**20:.1f} MiB")
    return figures


def one_system(app, system, slots, environment, repeat):
    """The run in the middle of several."""
    runs = [one_run(app, system, slots, environment) for _ in range(repeat)]
    runs.sort(key=lambda run: sum(run[0].values()))
    parts, processes = runs[len(runs) // 2]
    return {
        "bytes": sum(parts.values()),
        "sums": [sum(run[0].values()) for run in runs],
        "by_kind": dict(parts),
        "processes": dict(processes),
    }


def one_run(app, system, slots, environment):
    """Bytes and number of processes, by kind."""
    with stage(system, app, **environment) as setting:
        setting.start_warm(WARM_UP * slots)
        kinds = setting.kinds()
        parts, processes = Counter(), Counter()
        for pid, kind in kinds.items():
            parts[kind] += pss(pid)
            processes[kind] += 1
    return parts, processes


def grow(directory):
    """Makes an application of many modules around the example; returns the environment in which that is what runs."""
    grown = directory / "grown"
    grown.mkdir()
    names = [f"part{number}" for number in range(MODULES)]
    for name in names:
        functions = "".join(
            f'def handle_{n}(request, item=None, *, limit={n}):\n    """Handles item {n} of {name}."""\n'
            f"    found = [entry for entry in request if entry != item and len(str(entry)) > limit]\n"
            f"    return {{'name': '{name} {n}', 'found': found, 'limit': limit}}\n\n\n"
            for n in range(20)
        )
        fields = "".join(f"    field_{n} = '{name} {n}'\n" for n in range(20))
        (grown / f"{name}.py").write_text(f'"""A part."""\n\n\n{functions}class Model:\n    """Of {name}."""\n\n{fields}')
    (grown / "__init__.py").write_text("".join(f"from . import {name}\n" for name in names))
    (directory / "grown_settings.py").write_text(
        "from imgbackend.settings import *  # noqa: F403\n\nINSTALLED_APPS = [*INSTALLED_APPS, 'grown']  # noqa: F405\n"
    )
    return {"DJANGO_SETTINGS_MODULE": "grown_settings", "PYTHONPATH": str(directory)}
