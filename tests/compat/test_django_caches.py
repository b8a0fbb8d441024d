"""A cache of Django's that has something to close is closed after each task, as Celery does it, whoever closes it."""
from opening import seen
from stage import PATIENCE

PLUGIN = "opening"
SLOTS = 1
ENVIRONMENT = {"COMPAT_DATA": "", "COMPAT_CLOSING": "1", "DJANGO_SETTINGS_MODULE": "opening_settings"}
#: How often databases are asked to close between two tasks: before the second, where fairstalk knows that none is open, and
#: after the first, where Celery's own code closes the caches too.
ASKED = {"celery": 8, "fairstalk": 4}


def test_caches(worker):
    """Once for each task, and databases none the less."""
    for what in ("closing", None, None, "database", None):
        seen.delay(what).get(timeout=PATIENCE)
    found = [seen.delay().get(timeout=PATIENCE) for _ in range(3)]
    assert [(each["cache"], each["database"], each["files"]) for each in found] == [(1, ASKED[worker.kind], 0)] * 3
