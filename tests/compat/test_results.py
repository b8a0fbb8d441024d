"""Results and messages in every form the settings allow."""
from datetime import datetime, timezone
from decimal import Decimal
from uuid import UUID

import compat_tasks as t
import pytest
from celery import chord, group
from celery.result import AsyncResult
from stage import PATIENCE, since

from harness.waiting import eventually

SETTINGS = {
    "accept_content": ["json", "yaml", "msgpack", "pickle"],
    "result_extended": True,
    "result_chord_ordered": False,
    "result_compression": "zlib",
    "task_compression": "gzip",
    "task_track_started": True,
    "result_expires": 3600,
}
SECTIONS = {"delivery": {"accept": ["json", "yaml", "msgpack", "pickle"]}}
ENVIRONMENT = {"C_FORCE_ROOT": "1"}


def test_extended_results(worker):
    """Name, arguments, queue, worker and retries are stored too, of a success, a failure and a killed task."""
    done = t.add.delay(1, 2)
    assert done.get(timeout=PATIENCE) == 3
    assert (done.name, done.args, done.kwargs, done.queue, done.retries) == ("compat_tasks.add", [1, 2], {}, "celery", 0)
    assert "@" in done.worker and isinstance(done.date_done, datetime)
    failed = t.fail.delay(message="seen")
    with pytest.raises(t.Broken, match="seen"):
        failed.get(timeout=PATIENCE)
    assert (failed.name, failed.kwargs) == ("compat_tasks.fail", {"message": "seen"})
    killed = t.die.delay()
    with pytest.raises(Exception, match="Worker"):
        killed.get(timeout=PATIENCE)
    assert (killed.name, killed.state) == ("compat_tasks.die", "FAILURE")
    assert 3500 < worker.client.ttl(f"celery-task-meta-{done.id}") <= 3600


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
def test_serializers_and_compression(worker, serializer, compression):
    """Messages in any form the settings accept, also of the parts of a canvas."""
    form = {"serializer": serializer, "compression": compression}
    value = {"text": "ü" * 1000, "list": [1, 2.5, None, True]}
    assert t.same.apply_async((value,), **form).get(timeout=PATIENCE) == value
    if serializer != "yaml":  # kombu's YAML has no word for the body's signature
        canvas = chord([t.add.s(n, n).set(**form) for n in range(3)], t.total.s().set(**form))
        assert canvas.apply_async(**form).get(timeout=PATIENCE) == 6


def test_values_json_has_no_word_for(worker):
    """What kombu's JSON marks: dates, UUIDs, decimals."""
    values = [datetime(2026, 1, 2, tzinfo=timezone.utc), UUID(int=7), Decimal("1.10")]
    assert t.same.delay(values).get(timeout=PATIENCE) == values


def test_an_unserializable_result(worker):
    """Fails the task, as in Celery, and not the worker."""
    with pytest.raises(Exception, match="not JSON serializable"):
        t.strange.delay().get(timeout=PATIENCE)
    assert t.add.delay(1, 2).get(timeout=PATIENCE) == 3


def test_an_unordered_chord(worker):
    """With `result_chord_ordered = False` the body gets all results, in any order."""
    canvas = chord([t.same.s(n) for n in range(6)], t.collect.s()).apply_async()
    (values,) = canvas.get(timeout=PATIENCE)
    assert sorted(values) == list(range(6))


def test_states(worker):
    """STARTED with who runs it, a state of the task's own while it runs, and one kept by `Ignore`."""
    path = worker.directory / "states"
    running = t.states.delay(str(path))
    eventually(lambda: running.state == "HALFWAY", PATIENCE, lambda: running.state)
    assert running.info == {"done": 5, "of": 10}
    path.touch()
    assert running.get(timeout=PATIENCE) == "done" and running.state == "SUCCESS"
    path = worker.directory / "started"
    started = t.wait_for.delay(str(path))
    eventually(lambda: started.state == "STARTED", PATIENCE, lambda: started.state)
    info = started.info
    path.touch()
    assert started.get(timeout=PATIENCE) == info["pid"] and "@" in info["hostname"]
    kept = t.ignored.delay("KEPT")
    eventually(lambda: kept.state == "KEPT" and kept.info == "kept", PATIENCE, lambda: kept.state)


def test_results_nobody_wants(worker):
    """`ignore_result` of the task and of the call."""
    ids = [t.unwanted.delay(1).id, t.add.apply_async((1, 2), ignore_result=True).id]
    assert t.add.delay(1, 2).get(timeout=PATIENCE) == 3
    eventually(lambda: not worker.client.llen("celery") and not worker.client.hlen("unacked"), PATIENCE)
    assert [AsyncResult(task).ready() for task in ids] == [False, False]


@since(5, 6)
def test_a_result_asked_for(worker):
    """`ignore_result=False` of the call counts more than that of the task."""
    assert t.unwanted.apply_async((5,), ignore_result=False).get(timeout=PATIENCE) == 5


def test_stamps(worker):
    """Stamps reach the task, its callbacks and its stored result."""
    stamped = t.about.s()
    stamped.stamp(tenant="7", trace=["a", "b"])
    result = stamped.apply_async()
    seen = result.get(timeout=PATIENCE)
    assert seen["stamps"] == {"tenant": "7", "trace": ["a", "b"]}
    assert sorted(seen["stamped_headers"]) == ["tenant", "trace"]
    assert worker.app.backend.get_task_meta(result.id)["tenant"] == "7"
    both = group(t.about.s(), t.about.s())
    both.stamp(group_stamp="g")
    assert [part["stamps"] for part in both.apply_async().get(timeout=PATIENCE)] == [{"group_stamp": "g"}] * 2


@since(5, 7)
def test_rejected(worker):
    """`Reject` without requeueing is a failure."""
    result = t.rejected.delay()
    eventually(lambda: result.state == "FAILURE", PATIENCE, lambda: result.state)
