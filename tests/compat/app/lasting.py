"""Receivers that take longer than anybody waits."""
import time

from celery import signals

import compat_tasks


def install(app):
    signals.worker_process_shutdown.connect(runner_ends, weak=False)
    signals.worker_shutdown.connect(worker_ends, weak=False)


def runner_ends(**kwargs):
    compat_tasks.note("lasting", "runner")
    time.sleep(600)


def worker_ends(**kwargs):
    compat_tasks.note("lasting", "worker")
    time.sleep(600)
