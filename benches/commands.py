"""Command tasks per second, beside a loop that starts the same program and waits for it, and does nothing else.

The loop (`probe spawn`) has neither shell nor pipe nor message. There is one of them, and as many at once as there are slots.
"""
import statistics
import subprocess

from drain import one_run
from systems import SLOTS, Daemon, probe

PROGRAM = "/bin/true"
#: The messages are those of this task, which is a command here.
TASK = "bench.tasks.noop"


def measure(app, sizes, say):
    """By turns; medians."""
    from bench.tasks import noop

    daemon = Daemon(python=None, **{f'tasks."{TASK}"': {"command": [PROGRAM], "max_retries": 0}})
    rates = {"loop": [], "loops": [], "fairstalk": []}
    for repetition in range(sizes.repeat):
        rates["loop"].append(spawned(sizes.commands, 1))
        rates["loops"].append(spawned(sizes.commands, SLOTS))
        rates["fairstalk"].append(one_run(app, daemon, noop, sizes.commands)["rate"])
        told = ", ".join(f"{key} {of[-1]:.0f}/s" for key, of in rates.items())
        say(f"commands {repetition + 1}/{sizes.repeat}: {told}")
    return {"tasks": sizes.commands, **{key: {"rate": statistics.median(of), "rates": of} for key, of in rates.items()}}


def spawned(count, loops):
    """Programs per second."""
    ended = subprocess.run([probe(), "spawn", str(count), str(loops), PROGRAM], check=True, capture_output=True, text=True)
    return count / float(ended.stdout)
