"""Time from the start of the program until it is ready for tasks.

fairstalk is ready when it tells systemd so (READY=1), which it does after every worker has reached Redis and has its
runners. Celery is ready at its signal `worker_ready`, where it logs "ready."; its children may still be forking. One second of it is not work: by default it asks all other
workers what they know ("mingle") and waits that long for answers.
`without Python` is a fairstalk that only runs a command, with no application to import.
"""
import statistics

from systems import Daemon, Stock, stage

COMMAND_ONLY = {"python": None, 'tasks."bench.true"': {"command": ["/bin/true"]}}


def measure(app, sizes, say):
    """Medians of runs by turns."""
    systems = {"celery": Stock(), "fairstalk": Daemon(), "without_python": Daemon(**COMMAND_ONLY)}
    taken = {key: [] for key in systems}
    for _ in range(sizes.startups):
        for key, system in systems.items():
            with stage(system, app) as setting:
                setting.start()
                taken[key].append(setting.wait_ready())
    figures = {key: {"seconds": statistics.median(times), "runs": times} for key, times in taken.items()}
    say("start: " + ", ".join(f"{key} {1000 * figure['seconds']:.0f} ms" for key, figure in figures.items()))
    return figures
