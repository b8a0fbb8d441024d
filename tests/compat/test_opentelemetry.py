"""OpenTelemetry's Celery instrumentation, set up in `worker_process_init` as its documentation wants."""
import json

import compat_tasks as t
import pytest
from stage import PATIENCE

PLUGIN = "traced"
SLOTS = 1


def test_spans(worker):
    """Each run is a span of its task, with its id; a failure is noted on it; what a task sends is its child."""
    done = t.add.delay(1, 2)
    assert done.get(timeout=PATIENCE) == 3
    with pytest.raises(t.Broken):
        t.fail.delay().get(timeout=PATIENCE)
    assert t.replaced.delay("task", 1, 2).get(timeout=PATIENCE) == 3
    worker.stop()
    spans = [json.loads(line) for line in worker.client.lrange("spans", 0, -1)]
    runs = {span["name"]: span for span in spans if span["name"].startswith("run/")}
    first = next(span for span in spans if span["attributes"].get("messaging.message.id") == done.id)
    assert first["name"] == "run/compat_tasks.add"
    assert first["attributes"]["celery.state"] == "SUCCESS"
    assert first["attributes"]["celery.action"] == "run"
    assert runs["run/compat_tasks.fail"]["status"] == "ERROR"
    assert "exception" in runs["run/compat_tasks.fail"]["events"]
    (sent,) = [span for span in spans if span["name"] == "apply_async/compat_tasks.add"]
    assert sent["parent"] == runs["run/compat_tasks.replaced"]["id"]
    (child,) = [span for span in spans if span["parent"] == sent["id"]]
    assert (child["name"], child["trace"]) == ("run/compat_tasks.add", sent["trace"])
