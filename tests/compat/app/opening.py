"""Opens connections to databases and caches of Django's in tasks, and tells what is open at the start of the next."""
import os

from celery import shared_task

#: How often something of Django's was closed in this process, be it open or not.
closed = {"database": 0, "cache": 0, "by hand": 0}


def install(app):
    from django.db.backends.base.base import BaseDatabaseWrapper

    check = BaseDatabaseWrapper.validate_thread_sharing

    def validate_thread_sharing(self):
        closed["database"] += 1  # the first that closing does
        check(self)

    BaseDatabaseWrapper.validate_thread_sharing = validate_thread_sharing


@shared_task
def seen(what=None):
    """What is open, and how often something was closed since the last of these; then `what` is opened, and left so."""
    from django.core.cache import caches
    from django.db import connection, connections

    found = {"files": files(), "open": connection.connection is not None, **closed}
    if what == "database":
        connection.ensure_connection()
        found["files"] = files()
    elif what == "transaction":
        connection.set_autocommit(False)
    elif what == "by hand":
        connections["other"] = ByHand()
    elif what is not None:
        caches[what].set("key", "value")
    closed.update(dict.fromkeys(closed, 0))
    return found


def files():
    """How many files of the database are open."""
    numbers = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.readlink(path).endswith("opened.sqlite3") for path in numbers if os.path.lexists(path))


class ByHand:
    """What an application puts among Django's connections itself."""

    alias = "other"

    def close(self):
        closed["by hand"] += 1
