"""Settings of a small image backend: SQLite, Redis, and twenty queues for all users.

Everything that differs between machines comes from the environment:

    CELERY_BROKER_URL, CELERY_RESULT_BACKEND   Redis (default: database 0 on this host)
    IMGBACKEND_DATA         directory of the database and the images (default: the project's folder)
    IMGBACKEND_FAIL_FIRST   share of image tasks that fail at their first try (default 0.05)
    IMGBACKEND_LATENCY      seconds each image waits for its "image model" (default 0)
"""
import os
from pathlib import Path

from kombu import Exchange, Queue

from .routing import DEFAULT_QUEUE, NUM_QUEUES

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("IMGBACKEND_DATA") or BASE_DIR)

# An example: it keeps no secrets and listens on this host only.
SECRET_KEY = "imgbackend-example"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = ["images", "bench"]
MIDDLEWARE = []
ROOT_URLCONF = "imgbackend.urls"
WSGI_APPLICATION = "imgbackend.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

# Many worker processes write at the same time. WAL lets readers go on meanwhile; a transaction that
# asks for the write lock at its beginning waits for it, where a later upgrade would fail at once.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        "OPTIONS": {
            "timeout": 30,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
MEDIA_ROOT = DATA_DIR / "media"

IMAGE_FAIL_FIRST = float(os.environ.get("IMGBACKEND_FAIL_FIRST", "0.05"))
IMAGE_LATENCY = float(os.environ.get("IMGBACKEND_LATENCY", "0"))

_tasks = Exchange("tasks", type="direct")
_names = [f"queue_{number}" for number in range(NUM_QUEUES)]

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", "redis://127.0.0.1:6379/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_QUEUES = [Queue(name, _tasks, routing_key=name) for name in _names]
CELERY_TASK_DEFAULT_QUEUE = DEFAULT_QUEUE
CELERY_TASK_DEFAULT_ROUTING_KEY = DEFAULT_QUEUE
CELERY_TASK_DEFAULT_EXCHANGE = "tasks"
CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "direct"
CELERY_TASK_CREATE_MISSING_QUEUES = False
