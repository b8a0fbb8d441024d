"""Writes down which signals arrive, in which process, and from whom."""
import json
import os

from celery import Task, signals

import compat_tasks

#: Of a worker's life, and of a task's.
LIFE = [
    "celeryd_init", "worker_init", "celeryd_after_setup", "worker_ready", "worker_before_create_process",
    "worker_process_init", "worker_process_shutdown", "worker_shutting_down", "worker_shutdown",
]
TASK = [
    "task_received", "task_prerun", "task_postrun", "task_success", "task_failure", "task_retry", "task_revoked",
    "task_rejected", "task_unknown", "task_internal_error",
]


def install(app):
    for name in LIFE + TASK:
        getattr(signals, name).connect(receiver(name), weak=False)
    app.task(name="compat_tasks.handler_fails", base=HandlerFails)(fail)


class HandlerFails(Task):
    """A task with a handler that fails: an error in Celery's tracer and not in the task."""

    def on_failure(self, *args, **kwargs):
        raise ZeroDivisionError("handler")


def fail():
    raise KeyError("task")


def receiver(name):
    def hear(sender=None, **arguments):
        compat_tasks.note("signals", json.dumps({
            "signal": name,
            "sender": described(sender),
            "pid": os.getpid(),
            "task": id_of(arguments),
            "arguments": sorted(set(arguments) - {"signal"}),
            "detail": {key: arguments[key] for key in ("sig", "how", "terminated", "expired", "signum") if key in arguments},
        }))

    return hear


def id_of(arguments):
    """Whose signal it is."""
    request = arguments.get("request")
    return arguments.get("task_id") or arguments.get("id") or getattr(request, "id", None)


def described(sender):
    """Node names and tasks by name, objects by what they know; Celery's pool knows neither node nor application."""
    if sender is None or isinstance(sender, str):
        return sender
    if hasattr(sender, "request"):
        return sender.name
    app = getattr(sender, "app", None)
    return {"node": getattr(sender, "hostname", None), "app": app and app.main}
