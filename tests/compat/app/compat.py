"""The application of these tests: `celery -A compat`. Where its Redis is and how it is set up stands in the environment.

COMPAT_BROKER is the broker, COMPAT_SETTINGS a JSON object of Celery settings, COMPAT_PLUGIN a module whose
`install(app)` connects whatever a test wants to see connected.
"""
import importlib
import json
import os

from celery import Celery


def create(environment):
    """A new application, the current one from now on."""
    app = Celery("compat", broker=environment["COMPAT_BROKER"], include=["compat_tasks"])
    app.conf.update(
        result_backend=environment["COMPAT_BROKER"], broker_connection_retry_on_startup=True, task_publish_retry=True
    )
    app.conf.update(json.loads(environment.get("COMPAT_SETTINGS", "{}")))
    if environment.get("COMPAT_PLUGIN"):
        importlib.import_module(environment["COMPAT_PLUGIN"]).install(app)
    return app


if "COMPAT_BROKER" in os.environ:
    app = create(os.environ)
