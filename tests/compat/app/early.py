"""An application that runs a task itself, at once, when a process of the pool begins."""
from celery import signals

import compat_tasks


def install(app):
    signals.worker_process_init.connect(begin, weak=False)


def begin(**kwargs):
    compat_tasks.note("early", str(compat_tasks.traced.apply().result["eager"]))
