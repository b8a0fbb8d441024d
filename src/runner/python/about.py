"""What an application says of itself to `fairstalk check`, and what in it is worth a warning at every start."""

import platform

import celery

from .application import tasks

#: Claims are renewed every 2.4 s, and a lease lasts 7 s; kombu looks for overdue ones with some slack on top.
SHORTEST_VISIBILITY = 15


def about(app, results_db):
    """Versions, where results go, and the longest limits. `results_db` is as from `results.database`."""
    with app.connection_for_write() as connection:
        transport = connection.transport_cls
    return {
        "celery": celery.__version__,
        "python": platform.python_version(),
        "transport": transport if isinstance(transport, str) else type(transport).__name__,
        "results": {"backend": type(app.backend).__name__, "in_step": results_db is not None, "database": results_db},
        "hard_limit": longest(app, "time_limit"),
        "soft_limit": longest(app, "soft_time_limit"),
        "visibility_timeout": visibility_timeout(app),
    }


def warnings(app):
    """What in the settings endangers tasks while fairstalk runs."""
    timeout = visibility_timeout(app)
    if timeout >= SHORTEST_VISIBILITY:
        return []
    return ["visibility_timeout is {:g} s: a stock Celery worker on the same queues would take messages from living "
            "workers; make it at least {} s".format(timeout, SHORTEST_VISIBILITY)]


def visibility_timeout(app):
    """In seconds; kombu's default is an hour."""
    try:
        return float((app.conf.broker_transport_options or {}).get("visibility_timeout") or 3600)
    except (TypeError, ValueError):
        return 3600.0


def longest(app, limit):
    """The longest limit of one kind and the task that has it, or None if no task has any."""
    limits = [(float(value), name) for name in tasks(app)
              if (value := getattr(app.tasks[name], limit) or getattr(app.conf, "task_" + limit))]
    if not limits:
        return None
    seconds, name = max(limits)
    return {"seconds": seconds, "task": name}
