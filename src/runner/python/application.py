"""Loads the Celery application as `celery worker` would, and tells the daemon what it found.

The order of steps is that of `celery.apps.worker.Worker` and `celery.concurrency.prefork`: applications hang
their own set-up on these signals, and Django's fixup connects its receivers only at `worker_init`.
"""

import inspect
import logging
import os
import socket
import sys

class WorkerInfo:
    """What `worker_init` receivers find as their sender: Django's fixup reads `app` and `pool_cls`."""

    pool_cls = "celery.concurrency.prefork:TaskPool"
    logfile = None

    def __init__(self, app, hostname, concurrency, loglevel):
        self.app = app
        self.hostname = hostname
        self.concurrency = concurrency
        self.loglevel = loglevel
        self.pid = os.getpid()
        self.options = {}

    def __str__(self):
        return self.hostname


def load(boot):
    """Import the application and everything it registers; returns the Celery app and the sender of its worker's signals."""
    directory = boot["directory"]
    os.chdir(directory)
    sys.path.insert(0, directory)
    from celery import signals
    from celery.app import trace
    from celery.app.utils import find_app

    app = find_app(boot["app"])
    hostname = "fairstalk@" + socket.gethostname()
    info = WorkerInfo(app, hostname, boot["slots"], boot["loglevel"])
    wait_for_broker(app)
    app.loader.init_worker()
    trace.setup_worker_optimizations(app, hostname)
    signals.celeryd_init.send(sender=hostname, instance=info, conf=app.conf, options={})
    signals.worker_init.send(sender=info)
    custom_logging = app.log.setup(boot["loglevel"], None, redirect_stdouts=False, colorize=False, hostname=hostname)
    # The worker writes a line of its own for every task that ends, so the tracer need not format one too.
    # Has to stand before the tracers are built: they ask once whether INFO is wanted.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    trace.setup_worker_optimizations(app, hostname)
    signals.celeryd_after_setup.send(sender=hostname, instance=info, conf=app.conf)
    if not custom_logging and app.conf.worker_redirect_stdouts:
        app.log.redirect_stdouts(app.conf.worker_redirect_stdouts_level)
    return app, info


def wait_for_broker(app):
    """Have tasks wait for the broker when they send others, where the application has no policy of its own.

    By default Celery gives up after half a second, and with it drops the retry or the rest of the chain. A worker of
    its own may do so: it has lost its connection too, and will run the task again. Ours keeps running tasks.
    """
    from celery.app.defaults import DEFAULTS

    policy = app.conf.task_publish_retry_policy
    if policy == DEFAULTS["task_publish_retry_policy"]:
        # Callbacks need a number: for "no limit" Celery takes a small one.
        app.conf.task_publish_retry_policy = {**policy, "max_retries": 1000000}


def tasks(app):
    """Names of the registered tasks, without Celery's own."""
    return [name for name in app.tasks if not name.startswith("celery.")]


def registry(app, results_in_worker):
    """What the daemon has to know of the application, as one JSON-able mapping."""
    return {
        "timezone": str(app.conf.timezone),
        "tz": os.environ.get("TZ"),
        "send_task_events": bool(app.conf.worker_send_task_events),
        "event_exchange": app.conf.event_exchange,
        "time_limit": app.conf.task_time_limit,
        "soft_time_limit": app.conf.task_soft_time_limit,
        "results_db": results_in_worker,
        "results_prefix": None if results_in_worker is None else results_prefix(app.backend),
        "tasks": {name: describe(task) for name, task in app.tasks.items()},
    }


def results_prefix(backend):
    """What stands before `celery-task-meta-` in a result's key; None where keys are made in another way."""
    key = backend.get_key_for_task("ID")
    before, meta, after = (key.decode() if isinstance(key, bytes) else key).partition("celery-task-meta-")
    return before if meta and after == "ID" else None


def warnings(app, server, queues):
    """What in the application doesn't fit the daemon's configuration, in words for the operator.

    `server` is the daemon's broker as `host:port/db`, or None where it is no TCP address.
    """
    found = []
    with app.connection_for_write() as connection:
        if connection.transport_cls in ("redis", "rediss") and server is not None:
            theirs = "{}:{}/{}".format(connection.hostname, connection.port or 6379, connection.virtual_host or 0)
            if theirs.replace("localhost", "127.0.0.1") != server.replace("localhost", "127.0.0.1"):
                found.append("the application publishes to Redis {}, but [broker] url is {}: retries and chains "
                             "would not be seen".format(theirs, server))
    missing = [name for name in app.amqp.queues if name not in queues]
    if missing:
        found.append("queues of the application that [queues] does not name, and nobody here consumes: "
                     + ", ".join(missing))
    return found


def describe(task):
    """Limits, signature and rules of one task; the parameter names tell whose task a message is."""
    from celery.utils.time import rate

    try:
        parameters = [p.name for p in inspect.signature(task.run).parameters.values()
                      if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        parameters = []
    return {
        "parameters": parameters,
        "time_limit": task.time_limit or task.app.conf.task_time_limit,
        "soft_time_limit": task.soft_time_limit or task.app.conf.task_soft_time_limit,
        "rate_limit": None if task.app.conf.worker_disable_rate_limits else rate(task.rate_limit) or None,
        "send_events": bool(task.send_events),
        "acks_late": bool(task.acks_late),
        "acks_on_failure": bool(acks_on(task, "failure")),
        "acks_on_timeout": bool(acks_on(task, "timeout")),
        "reject_on_worker_lost": bool(task.reject_on_worker_lost),
    }


def acks_on(task, what):
    """`acks_on_failure` or `acks_on_timeout`; before Celery 5.7 there was one setting for both."""
    own = getattr(task, "acks_on_" + what, None)
    return task.acks_on_failure_or_timeout if own is None else own
