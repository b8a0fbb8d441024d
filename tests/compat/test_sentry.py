"""Sentry's Celery integration, as an application sets it up."""
import json

import compat_tasks as t
import pytest
from stage import PATIENCE

PLUGIN = "sentried"
SLOTS = 1


def test_failures_and_transactions_arrive(worker):
    """A failure is one event with the task's name and arguments, each run is a transaction; expected ones are no failures.

    The transport holds back what it gets until it is flushed, so this fails where a process ends without that.
    """
    assert t.add.delay(1, 2).get(timeout=PATIENCE) == 3
    failed = t.fail.delay("seen by Sentry")
    with pytest.raises(t.Broken):
        failed.get(timeout=PATIENCE)
    with pytest.raises(KeyError):
        t.expected.delay().get(timeout=PATIENCE)
    worker.stop()
    told = [json.loads(line) for line in worker.client.lrange("sentry", 0, -1)]
    (failure,) = [event for event in told if "exception" in event]
    assert failure["exception"]["values"][-1]["value"] == "seen by Sentry"
    assert failure["transaction"] == "compat_tasks.fail"
    assert failure["extra"]["celery-job"]["args"] == ["seen by Sentry"]
    assert failure["tags"]["celery_task_id"] == failed.id
    runs = [event for event in told if event.get("type") == "transaction"]
    assert sorted(run["transaction"] for run in runs) == [
        "compat_tasks.add", "compat_tasks.expected", "compat_tasks.fail"
    ]
    assert {run["contexts"]["trace"]["op"] for run in runs} == {"queue.task.celery"}
