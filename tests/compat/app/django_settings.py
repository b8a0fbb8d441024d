"""The least Django needs for `django_celery_results`."""
import os

SECRET_KEY = "for tests"
INSTALLED_APPS = ["django_celery_results"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(os.environ["COMPAT_DATA"], "results.sqlite3"),
        # A transaction that begins with a read could not wait for its turn to write.
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
