"""What a task leaves open of Django's is closed before the next begins, as Celery does it, whoever closes it.

One slot, so that each task sees what the one before has left.
"""
from opening import seen
from stage import PATIENCE

PLUGIN = "opening"
SLOTS = 1
#: How often a database is asked to close between two tasks: each of two asks twice, after the one task and before the other.
ASKED = {"celery": 8, "fairstalk": 0}
ENVIRONMENT = {"COMPAT_DATA": "", "DJANGO_SETTINGS_MODULE": "opening_settings"}


def tell(what=None):
    """What a task finds that opens this."""
    return seen.delay(what).get(timeout=PATIENCE)


def test_databases(worker):
    """Closed after each task that has opened one; where nothing is open, fairstalk doesn't go and ask, Celery does."""
    tell("default")
    assert tell()["database"] == ASKED[worker.kind]
    for what in ("database", "transaction"):
        assert tell(what)["open"] is False
        found = tell()
        assert (found["open"], found["files"], found["database"] > 0) == (False, 0, True), what
        assert tell()["database"] == ASKED[worker.kind]
    assert tell("database")["files"] > 0
    assert tell()["files"] == 0


def test_by_hand(worker):
    """A connection that Django has not made is closed before and after each task."""
    tell("by hand")
    assert [tell()["by hand"] for _ in range(3)] == [2, 2, 2]
