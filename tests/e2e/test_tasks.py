"""What a task and its caller may rely on: the same assertions under a stock `celery worker` and under fairstalk."""
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from billiard.exceptions import TimeLimitExceeded
from celery import chain, chord, group
from celery.exceptions import ChordError, SoftTimeLimitExceeded, TaskRevokedError
from celery.result import AsyncResult, GroupResult
from harness.broker import stored, wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

PATIENCE = 20


def test_results_and_canvases(worker, tmp_path):
    """A result, a saved group, a chain, a chord, a callback."""
    assert enqueue_task_to_user_queue(tasks.add, 42, 2, 3).get(timeout=PATIENCE) == 5

    parts = group(tasks.add.s(n, n) for n in range(10)).apply_async()
    parts.save()
    restored = GroupResult.restore(parts.id)
    assert restored.get(timeout=PATIENCE) == [2 * n for n in range(10)]
    assert restored.completed_count() == 10

    assert chain(tasks.add.s(1, 2), tasks.add.s(4), tasks.add.s(5)).apply_async().get(timeout=PATIENCE) == 12
    assert chord((tasks.add.s(n, 1) for n in range(5)), tasks.total.s()).apply_async().get(timeout=PATIENCE) == 15
    nested = chain(group(tasks.add.s(n, 1) for n in range(3)), tasks.total.s(), tasks.add.s(100))
    assert nested.apply_async().get(timeout=PATIENCE) == 106

    linked = tasks.add.apply_async((1, 2), link=tasks.add.s(10))
    assert linked.get(timeout=PATIENCE) == 3
    (callback,) = eventually(lambda: linked.children, PATIENCE)
    assert callback.get(timeout=PATIENCE) == 13


def test_what_is_stored(worker, client):
    """The members of a stored result, and how long it is kept."""
    done = tasks.add.delay(1, 2)
    done.get(timeout=PATIENCE)
    result = stored(client, done.id)
    assert list(result) == ["status", "result", "traceback", "children", "date_done", "task_id"]
    assert (result["status"], result["result"], result["children"]) == ("SUCCESS", 3, [])
    assert 86_000 < client.ttl(f"celery-task-meta-{done.id}") <= 86_400
    member = group([tasks.add.s(1, 2)]).apply_async()
    member.get(timeout=PATIENCE)
    assert stored(client, member.results[0].id)["group_id"] == member.id


def test_failures_reach_the_caller(worker, client, ledger):
    """A task raises its own exception in the caller, with its traceback; the errback hears of it."""
    failed = tasks.fail.delay("no such product")
    with pytest.raises(ValueError, match="no such product"):
        failed.get(timeout=PATIENCE)
    assert "raise ValueError(message)" in failed.traceback
    with pytest.raises(tasks.BenchError) as caught:
        tasks.fail_custom.delay("broken", 7).get(timeout=PATIENCE)
    assert (caught.value.reason, caught.value.code) == ("broken", 7)

    told = tasks.fail.apply_async(("told",), link_error=tasks.errback.s(str(ledger)))
    (line,) = eventually(ledger.lines, PATIENCE)
    assert (line["task"], line["error"]) == (told.id, "ValueError('told')")


def test_a_canvas_with_a_failing_part(worker):
    """A chord whose header fails, and a chain whose first link does."""
    broken = chord([tasks.add.s(1, 1), tasks.fail.s("header")], tasks.total.s()).apply_async()
    with pytest.raises(ChordError, match=r"raised ValueError\('header'\)"):
        AsyncResult(broken.id).get(timeout=PATIENCE)
    with pytest.raises(ValueError, match="header"):
        broken.get(timeout=PATIENCE)
    broken = chain(tasks.fail.s("first"), tasks.add.s(1)).apply_async()
    with pytest.raises(ValueError, match="first"):
        broken.get(timeout=PATIENCE)
    eventually(lambda: broken.state == broken.parent.state == "FAILURE", PATIENCE)


def test_retries(worker):
    """`self.retry` is seen as RETRY, counts, and ends when it works or when the retries are used up."""
    waits = tasks.flaky.delay(1, countdown=1)
    eventually(lambda: waits.state == "RETRY", PATIENCE)
    assert waits.get(timeout=PATIENCE) == 1
    assert tasks.flaky.delay(2, countdown=0.05).get(timeout=PATIENCE) == 2
    with pytest.raises(tasks.BenchError) as caught:
        tasks.hopeless.delay(retries=2, countdown=0.05).get(timeout=PATIENCE)
    assert caught.value.code == 2


def test_an_image_that_fails_first_is_retried(start_worker, app_env):
    """Autoretry with backoff: each first try fails, and in the end there is one image and one row."""
    from images.jobs import group_of, progress, start_job
    from images.models import Image

    app_env["IMGBACKEND_FAIL_FIRST"] = "1.0"
    start_worker()
    job = start_job(user_id=7, collection_id=3, products=2, prompts=["studio"])
    answers = group_of(job).get(timeout=PATIENCE)
    rows = Image.objects.order_by("product_index")
    assert [(row.retries, row.attempts) for row in rows] == [(1, 2), (1, 2)]
    assert [answer["path"] for answer in answers] == [row.path for row in rows]
    images = sorted(Path(app_env["IMGBACKEND_DATA"], "media").rglob("*.*"))
    assert images == [Path(app_env["IMGBACKEND_DATA"], "media", row.path) for row in rows]
    assert progress(job)["completed"] == 2


def test_results_nobody_wants(worker, client):
    """`ignore_result` in the task and in the call store nothing; `Ignore` keeps the state the task set."""
    ignored = [tasks.noop.delay(), tasks.add.apply_async((1, 2), ignore_result=True)]
    kept = tasks.ignore.delay()
    eventually(lambda: kept.state == "KEPT", PATIENCE)
    wait_settled(client)
    eventually(lambda: not client.llen("queue_0"))
    assert [stored(client, task.id) for task in ignored] == [None, None]
    assert (kept.state, kept.info) == ("KEPT", {"by": "the task"})


def test_reject(worker, client, tmp_path):
    """Refused for good: recorded and gone. Refused and put back: it comes again."""
    gone = tasks.reject.delay()
    eventually(lambda: gone.state == "FAILURE", PATIENCE, lambda: gone.state)
    assert tasks.reject.delay(requeue=True, unless=str(tmp_path / "refused")).get(timeout=PATIENCE) == "accepted"
    wait_settled(client)
    assert client.llen("queue_0") == 0


def test_states_while_it_runs(worker):
    """`update_state` is seen before the task ends."""
    running = tasks.report_progress.delay(3, 0.3)
    meta = eventually(lambda: running.state == "PROGRESS" and running.info, PATIENCE)
    assert meta["of"] == 3
    assert running.get(timeout=PATIENCE) == 3


def test_track_started(start_worker, app_env, tmp_path):
    """With `task_track_started`, STARTED is seen, with who runs it."""
    (tmp_path / "tracked.py").write_text("from imgbackend.celery import app\napp.conf.task_track_started = True\n")
    app_env["PYTHONPATH"] = str(tmp_path)
    start_worker(app="tracked")
    running = tasks.sleep.delay(0.5)
    meta = eventually(lambda: running.state == "STARTED" and running.info, PATIENCE)
    assert set(meta) == {"pid", "hostname"}
    assert running.get(timeout=PATIENCE) == 0.5


def test_time_limits(worker, client):
    """The soft limit is raised in the task, the hard one kills it, and the worker goes on."""
    caught = tasks.sleep_softly.apply_async((60,), soft_time_limit=1)
    soft = tasks.sleep.apply_async((60,), soft_time_limit=1)
    hard = tasks.sleep.apply_async((60,), time_limit=1)
    header = chord([tasks.sleep.s(60).set(time_limit=1)], tasks.total.s()).apply_async()
    assert caught.get(timeout=PATIENCE) == "soft time limit"
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=PATIENCE)
    with pytest.raises(TimeLimitExceeded) as limit:
        hard.get(timeout=PATIENCE)
    assert json.dumps(limit.value.args) == "[1]"
    with pytest.raises(ChordError, match="TimeLimitExceeded"):
        AsyncResult(header.id).get(timeout=PATIENCE)
    assert [task.get(timeout=PATIENCE) for task in [tasks.add.delay(n, 1) for n in range(8)]] == list(range(1, 9))
    wait_settled(client)


def test_time(worker, client, ledger):
    """What has expired is not run; what is not due is not run early."""
    late = tasks.record.apply_async((1, 1, str(ledger)), expires=datetime.now(timezone.utc) - timedelta(seconds=1))
    with pytest.raises(TaskRevokedError, match="expired"):
        late.get(timeout=PATIENCE)
    assert late.state == "REVOKED"

    due = datetime.now(timezone.utc) + timedelta(seconds=1)
    waits = tasks.record.apply_async((1, 2, str(ledger)), eta=due)
    counted = tasks.record.apply_async((1, 3, str(ledger)), countdown=1)
    tasks.record.apply_async((1, 4, str(ledger))).get(timeout=PATIENCE)
    assert ledger.numbers("start") == [4]
    assert [waits.get(timeout=PATIENCE), counted.get(timeout=PATIENCE)] == [2, 3]
    starts = {line["n"]: line["time"] for line in ledger.lines("start")}
    assert set(starts) == {2, 3, 4}
    assert min(starts[2], starts[3]) >= due.timestamp()
    wait_settled(client)


@pytest.mark.parametrize("compression", ["zlib", "bzip2"])
def test_compression(worker, compression):
    """A compressed message is read."""
    assert tasks.noop_result.apply_async(("x" * 10_000,), compression=compression).get(timeout=PATIENCE) == "x" * 10_000


def test_priorities(start_worker, ledger):
    """0 is the most urgent of a queue, or of a user; within one priority the order stays."""
    sent = []
    for number, priority in enumerate([9, 9, 6, 3, 0, 0]):
        args = (number, number, str(ledger))
        sent.append(tasks.record.apply_async(args, queue="queue_0", priority=priority))
    start_worker(slots=1)
    for task in sent:
        task.get(timeout=PATIENCE)
    assert ledger.numbers("start") == [4, 5, 3, 2, 0, 1]


def test_arguments_come_through(worker):
    """Numbers, texts and nesting arrive as they were sent, however large."""
    for value in [0, -1.5, 2**70, "", "ü\u0000\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), None, [[]]]:
        assert tasks.noop_result.delay(user_id=value).get(timeout=PATIENCE) == value
    deep = json.loads("[" * 200 + "]" * 200)
    large = {"text": "x" * 2_000_000, "deep": deep}
    assert tasks.noop_result.delay(large).get(timeout=PATIENCE) == large
