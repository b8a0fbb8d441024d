"""Celery's tracers are there when their tasks run, in fairstalk's processes not before."""
import compat_tasks as t
from stage import PATIENCE

PLUGIN = "early"
SLOTS = 1


def test_a_task_has_been_run_before_by_the_application_itself(worker):
    """What it was run with is not what the worker runs it with."""
    seen = t.traced.delay().get(timeout=PATIENCE)
    assert worker.client.lrange("early", 0, -1) == ["True"] and seen["eager"] is False
    assert "compat_tasks.traced" in seen["ready"]


def test_a_process_has_tracers_of_the_tasks_it_has_run(worker):
    """Celery's has them all from the beginning."""
    t.add.delay(1, 2).get(timeout=PATIENCE)
    ready = t.traced.delay().get(timeout=PATIENCE)["ready"]
    expected = {"compat_tasks.add", "compat_tasks.traced"}
    if worker.kind == "celery":
        assert set(ready) > expected and "compat_tasks.fail" in ready
    else:
        assert set(ready) == expected
