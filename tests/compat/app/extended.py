"""Extends Celery's worker from the inside, in every way there is."""
from celery import bootsteps, signals
from celery.worker.request import Request


class Probe(bootsteps.StartStopStep):
    """A step of the worker."""


class Gauge(bootsteps.ConsumerStep):
    """A step of its consumer."""


class OwnRequest(Request):
    """A request that would do more."""


def strategy(task, app, consumer, **kwargs):
    """Would decide what to do with messages."""


def nothing():
    """What both tasks do."""


def beat(**kwargs):
    """Would touch a file that a probe looks at."""


def install(app):
    app.steps["worker"].add(Probe)
    app.steps["consumer"].add(Gauge)
    app.task(name="extended.by_request", Request=OwnRequest)(nothing)
    app.task(name="extended.by_strategy", Strategy="extended:strategy")(nothing)
    app.conf.worker_consumer = "extended:OwnConsumer"
    signals.heartbeat_sent.connect(beat)
