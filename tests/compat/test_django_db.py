"""Results in Django's database, by `django_celery_results`: all of it Celery's and Django's own code."""
import os

import compat_tasks as t
import pytest
from billiard.exceptions import WorkerLostError
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult
from stage import PATIENCE

SETTINGS = {"result_backend": "django-db", "result_extended": True}
ENVIRONMENT = {"COMPAT_DATA": "", "DJANGO_SETTINGS_MODULE": "django_settings"}
PROGRAM = """
import django, sys
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""


def prepare(stage):
    """Make the tables, and set Django up in this process."""
    import subprocess
    import sys

    environment = {**os.environ, **stage.environment}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    os.environ.update(COMPAT_DATA=stage.environment["COMPAT_DATA"], DJANGO_SETTINGS_MODULE="django_settings")
    import django

    django.setup()
    from django.db import connections

    connections.close_all()
    connections["default"].settings_dict["NAME"] = str(stage.directory / "results.sqlite3")


def test_results(worker):
    """Results and canvases, failures, lost tasks; and the row with everything `result_extended` asks for."""
    from django_celery_results.models import TaskResult

    done = t.add.delay(1, 2)
    assert done.get(timeout=PATIENCE) == 3
    row = TaskResult.objects.get(task_id=done.id)
    assert (row.status, row.task_name, row.result) == ("SUCCESS", "compat_tasks.add", "3")
    assert "@" in row.worker
    assert group(t.add.s(n, n) for n in range(5)).apply_async().get(timeout=PATIENCE) == [0, 2, 4, 6, 8]
    assert chain(t.add.s(1, 2), t.add.s(3)).apply_async().get(timeout=PATIENCE) == 6
    assert chord([t.add.s(n, 1) for n in range(4)], t.total.s()).apply_async().get(timeout=PATIENCE) == 10
    with pytest.raises(Exception, match="told"):
        t.fail.delay("told").get(timeout=PATIENCE)
    with pytest.raises(WorkerLostError):
        t.die.delay().get(timeout=PATIENCE)
    broken = chord([t.add.s(1, 1), t.fail.s("header")], t.total.s()).apply_async()
    with pytest.raises(ChordError):
        AsyncResult(broken.id).get(timeout=PATIENCE)
    assert worker.client.keys("celery-task-meta-*") == []
