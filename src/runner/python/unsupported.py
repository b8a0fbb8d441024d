"""Names what in an application hangs on the inside of Celery's worker, which is not there to be extended."""

from celery import signals
from celery.app.defaults import DEFAULTS
from celery.app.task import Task


def warnings(app):
    """One sentence for each kind of extension that has no effect."""
    found = []
    steps = [name_of(step) for part in ("worker", "consumer") for step in app.steps[part]]
    if steps:
        found.append("bootsteps are not run: " + listed(steps))
    for attribute, what in (("Request", "request"), ("Strategy", "strategy")):
        own = [name for name, task in app.tasks.items() if getattr(task, attribute) != getattr(Task, attribute)]
        if own:
            found.append("{} classes of tasks' own are not used: {}".format(what, listed(own)))
    if app.conf.worker_consumer != DEFAULTS["worker_consumer"]:
        found.append("worker_consumer is not used: " + name_of(app.conf.worker_consumer))
    if signals.heartbeat_sent.receivers:
        found.append("the signal heartbeat_sent is never sent, but the application listens to it")
    return found


def name_of(what):
    """Of a class, or of what is written in a setting. Celery's steps carry their module in their name already."""
    if isinstance(what, str):
        return what
    return "{}.{}".format(what.__module__, what.__qualname__.rpartition(".")[2])


def listed(names):
    return ", ".join(sorted(names))
