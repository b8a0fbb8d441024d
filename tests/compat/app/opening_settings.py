"""Django with two databases, a cache that has nothing to close, and, if COMPAT_CLOSING is set, one that has."""
import os

SECRET_KEY = "for tests"
INSTALLED_APPS = []
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(os.environ["COMPAT_DATA"], "opened.sqlite3"),
        # Left to Django, connections would be kept for later: Celery closes them all the same.
        "CONN_MAX_AGE": 600,
    },
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(os.environ["COMPAT_DATA"], "other.sqlite3")},
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
if os.environ.get("COMPAT_CLOSING"):
    CACHES["closing"] = {"BACKEND": "closing_cache.ClosingCache"}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
