"""Time from the start of the program until it is ready for tasks, and of a runner's replacement.

fairstalk is ready when it tells systemd so (READY=1), which it does after every worker has reached Redis and has its
runners. Celery is ready at its signal `worker_ready`, where it logs "ready."; its children may still be forking. One second of it is not work: by default it asks all other
workers what they know ("mingle") and waits that long for answers.
`without Python` is a fairstalk that only runs a command, with no application to import.
`application` is what no worker can do without: a Python that imports the application, its result backend and the client of
its broker, with Django's set-up.
`replaced` is the time from the SIGKILL of a runner to the first line of the task that it had, which then runs again.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import time

from harness import PROJECT
from harness.daemon import clean_environment
from harness.waiting import eventually
from messages import remaining
from systems import Daemon, Stock, stage

COMMAND_ONLY = {"python": None, 'tasks."bench.true"': {"command": ["/bin/true"]}}
IMPORT = """
from celery import signals
from celery.app import trace
from celery.app.utils import find_app
app = find_app("imgbackend")
app.loader.init_worker()
class Worker:
    pool_cls = "celery.concurrency.prefork:TaskPool"
Worker.app = app
signals.worker_init.send(sender=Worker)
app.finalize()
app.backend, app.connection_for_write().transport
print(flush=True)
"""
#: A killed runner's task runs so long, twice: short of that the time of the kill is known to be in it.
TASK = 0.2


def measure(app, sizes, say):
    """Medians of runs by turns."""
    systems = {"celery": Stock(), "fairstalk": Daemon(), "without_python": Daemon(**COMMAND_ONLY)}
    taken = {key: [] for key in (*systems, "application")}
    for _ in range(sizes.startups):
        for key, system in systems.items():
            with stage(system, app) as setting:
                setting.start()
                taken[key].append(setting.wait_ready())
                if key == "fairstalk":
                    taken["application"].append(imported(setting.env))
    taken["replaced"] = replaced(app, sizes.kills)
    figures = {key: {"seconds": statistics.median(times), "runs": times} for key, times in taken.items()}
    say("start: " + ", ".join(f"{key} {1000 * figure['seconds']:.0f} ms" for key, figure in figures.items()))
    return figures


def imported(env):
    """Seconds until Python has imported the application."""
    begin = time.monotonic()
    command = [sys.executable, "-c", IMPORT]
    with subprocess.Popen(command, cwd=PROJECT, env=clean_environment(**env), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        return time.monotonic() - begin


def replaced(app, count):
    """Seconds for each of so many kills. The task ends at its second try, so the next kill is not one of a series."""
    from bench.tasks import record

    with stage(Daemon(1, 1), app) as setting:
        setting.start()
        setting.wait_ready()
        ledger, waits = setting.directory / "ledger", []

        def starts(number):
            lines = map(json.loads, ledger.read_text().splitlines()) if ledger.exists() else []
            return [line for line in lines if line["event"] == "start" and line["n"] == number]

        for number in range(count):
            record.apply_async((1, number, str(ledger)), {"seconds": TASK}, queue="queue_0", ignore_result=True)
            (first,) = eventually(lambda: starts(number))
            killed = time.time()
            os.kill(first["pid"], signal.SIGKILL)
            second = eventually(lambda: starts(number)[1:])[0]
            waits.append(second["time"] - killed)
            eventually(lambda: remaining(setting.client) == 0)
    return waits
