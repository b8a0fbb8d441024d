"""The example application under a stock `celery worker`.

What holds here has to hold under fairstalk too; when one of these fails, the example is wrong and not the daemon.
"""
import json
from pathlib import Path

import pytest
from celery import chain, chord, group
from celery.result import GroupResult
from django.core.management import call_command
from django.test import Client
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

PATIENCE = 20


def media(env):
    """The images on disk."""
    return sorted(Path(env["IMGBACKEND_DATA"], "media").rglob("*.png"))


@pytest.fixture
def worker(database, stock_worker):
    """A stock worker with two processes."""
    with stock_worker("-c", "2") as worker:
        yield worker


def test_queue_of_a_user():
    """The rule the whole thing is about, with values computed by hand from md5."""
    assert get_queue_for_user(1) == "queue_11"
    assert get_queue_for_user("1") == get_queue_for_user(1)
    assert get_queue_for_user(7, num_queues=1) == "queue_0"


def test_tasks_wait_in_the_queue_of_their_user(celery_app, redis):
    """Without a worker the messages lie where they belong; those of nobody in the default queue."""
    enqueue_task_to_user_queue(tasks.noop, 1, user_id=1)
    enqueue_task_to_user_queue(tasks.noop, None)
    tasks.noop.delay()
    with redis.client() as client:
        assert client.llen("queue_11") == 1
        assert client.llen("queue_0") == 2


def test_results_and_canvases(worker):
    """A result, a group that is saved and restored, a chain and a chord."""
    assert enqueue_task_to_user_queue(tasks.add, 42, 2, 3).get(timeout=PATIENCE) == 5

    parts = group(tasks.add.s(n, n) for n in range(10)).apply_async()
    parts.save()
    restored = GroupResult.restore(parts.id)
    assert restored.get(timeout=PATIENCE) == [2 * n for n in range(10)]
    assert restored.completed_count() == 10

    assert chain(tasks.add.s(1, 2), tasks.add.s(4)).apply_async().get(timeout=PATIENCE) == 7
    assert chord((tasks.add.s(n, 1) for n in range(5)), tasks.total.s()).apply_async().get(timeout=PATIENCE) == 15


def test_failures_reach_the_caller(worker, tmp_path):
    """Built-in and own exceptions, the errback, and states of a task's own."""
    with pytest.raises(ValueError, match="no such product"):
        tasks.fail.delay("no such product").get(timeout=PATIENCE)
    with pytest.raises(tasks.BenchError) as caught:
        tasks.fail_custom.delay("broken", 7).get(timeout=PATIENCE)
    assert caught.value.code == 7

    ledger = tmp_path / "errbacks"
    failed = tasks.fail.apply_async(("told",), link_error=tasks.errback.s(str(ledger)))
    line = json.loads(eventually(lambda: ledger.exists() and ledger.read_text(), PATIENCE))
    assert line["task"] == failed.id
    assert line["error"] == "ValueError('told')"

    kept = tasks.ignore.delay()
    eventually(lambda: kept.state == "KEPT", PATIENCE)


def test_retries(worker):
    """`self.retry` until it works, and until the retries are used up."""
    assert tasks.flaky.delay(2, countdown=0.05).get(timeout=PATIENCE) == 2
    with pytest.raises(tasks.BenchError):
        tasks.hopeless.delay(retries=1, countdown=0.05).get(timeout=PATIENCE)


def test_output_in_every_way(worker):
    """Loggers, print, the bare descriptor and a subprocess end in the worker's output."""
    assert tasks.log_lines.delay(2).get(timeout=PATIENCE) == 2
    for text in ("task logger 1", "module logger 1", "print 1", "descriptor 1", "subprocess 1"):
        worker.wait_log(text, PATIENCE)


def test_a_ledger_of_one_user_keeps_the_order(worker, tmp_path):
    """The record task writes a start and an end per delivery."""
    ledger = tmp_path / "ledger"
    sent = [enqueue_task_to_user_queue(tasks.record, 5, 5, n, str(ledger)) for n in range(20)]
    assert [task.get(timeout=PATIENCE) for task in sent] == list(range(20))
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert sorted(line["n"] for line in lines if line["event"] == "start") == list(range(20))
    assert sorted(line["n"] for line in lines if line["event"] == "end") == list(range(20))


def test_an_image_that_fails_first_is_retried(database, app_env, stock_worker):
    """Every first try fails: one retry, and still one image, one row."""
    from images.jobs import group_of, start_job
    from images.models import Image

    app_env["IMGBACKEND_FAIL_FIRST"] = "1.0"
    with stock_worker("-c", "2"):
        job = start_job(user_id=7, collection_id=3, products=1, prompts=["studio"])
        (answer,) = group_of(job).get(timeout=PATIENCE)
    row = Image.objects.get()
    assert (row.retries, row.attempts) == (1, 2)
    assert row.started_at < row.finished_at
    assert answer == {"user": 7, "path": row.path}
    assert media(app_env) == [Path(app_env["IMGBACKEND_DATA"], "media", row.path)]
    assert media(app_env)[0].read_bytes().startswith(b"\x89PNG")


def test_a_second_delivery_changes_nothing(worker, app_env):
    """The same message twice: the same file and the same row."""
    from images.jobs import group_of, start_job
    from images.models import Image
    from images.tasks import generate_single_image_task

    job = start_job(user_id=7, collection_id=3, products=1, prompts=["studio"])
    group_of(job).get(timeout=PATIENCE)
    first = Image.objects.get()
    generate_single_image_task.delay(job.pk, 3, 7, 0, "studio").get(timeout=PATIENCE)
    second = Image.objects.get()
    assert (second.pk, second.path, second.started_at) == (first.pk, first.path, first.started_at)
    assert second.attempts == 2
    assert len(media(app_env)) == 1


def test_the_command_makes_all_images(worker, app_env, capsys):
    """`generate_images --wait` ends when all are there."""
    call_command("generate_images", user=42, products=4, prompts="studio,beach,night", wait=True, timeout=60.0)
    assert "12 of 12 images made" in capsys.readouterr().out
    assert len(media(app_env)) == 12


def test_the_view_starts_a_job_and_shows_its_progress(worker):
    """POST, then GET until everything is made."""
    client = Client(headers={"host": "localhost"})
    order = {"user": 42, "collection": 9, "products": 3, "prompts": ["studio", "beach"]}
    created = client.post("/jobs/", order, content_type="application/json")
    assert created.status_code == 201, created.content
    assert created.json()["queue"] == get_queue_for_user(42)

    def finished():
        state = client.get(created.headers["Location"]).json()
        return state if state["completed"] == 6 else None

    state = eventually(finished, PATIENCE)
    assert (state["total"], state["failed"], len(state["images"])) == (6, 0, 6)
    assert client.get("/jobs/999/").status_code == 404


@pytest.mark.parametrize("order", ["{", '{"user": 1}', '{"user": 1, "products": 0, "prompts": ["a"]}', "[]"])
def test_the_view_refuses_a_bad_order(database, order):
    """A bad order is answered, not raised."""
    answer = Client(headers={"host": "localhost"}).post("/jobs/", order, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]
