"""The example application inside the test process: as a producer, a web process and a reader of results."""
import os
import sys


def environment(redis, data, **extra):
    """The environment in which the example application works with this Redis and this data directory."""
    return {
        "DJANGO_SETTINGS_MODULE": "imgbackend.settings",
        "CELERY_BROKER_URL": redis.url,
        "CELERY_RESULT_BACKEND": redis.url,
        "IMGBACKEND_DATA": str(data),
        "IMGBACKEND_FAIL_FIRST": "0",
        **extra,
    }


def celery_command(app="imgbackend"):
    """`celery -A imgbackend` of the Python we run in, whatever PATH says."""
    return [sys.executable, "-m", "celery", "-A", app]


def load():
    """Import the application once per process; which Redis and which data it uses is set by `connect`."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imgbackend.settings")
    os.environ.setdefault("IMGBACKEND_DATA", os.devnull)
    django.setup()
    from imgbackend.celery import app

    return app


def connect(app, env):
    """Point the loaded application at another Redis and another data directory.

    Celery asks the environment for its URLs each time, so only what it keeps open has to go.
    """
    from django.conf import settings
    from django.db import connections

    disconnect(app)
    os.environ.update(env)
    connections["default"].settings_dict["NAME"] = os.path.join(env["IMGBACKEND_DATA"], "db.sqlite3")
    settings.MEDIA_ROOT = os.path.join(env["IMGBACKEND_DATA"], "media")


def migrate():
    """Make the tables of the application."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def disconnect(app):
    """Close what the application holds open: broker connections, the result backend, the database."""
    from django.db import connections
    from kombu import pools

    backend = app._backend
    if backend is not None:
        backend.result_consumer.stop()
        # Else a result that is garbage-collected later unsubscribes, and for that connects again, for many seconds.
        backend.result_consumer.subscribed_to.clear()
        backend.client.close()
    app._backend_cache = None
    vars(app._local).pop("backend", None)
    app._pool = None
    app.amqp._producer_pool = None
    pools.reset()
    connections.close_all()
