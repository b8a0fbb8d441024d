"""Settings that docs/compatibility.md calls the same: one application with all of them, under a stock worker and fairstalk."""
import zlib

import pytest
from harness.broker import TASK_META, message, stored, wait_settled
from harness.waiting import eventually

from bench import tasks

PATIENCE = 40

APPLICATION = """
from bench.tasks import add
from imgbackend.celery import app

app.conf.update(
    task_acks_late=True,
    task_annotations={"bench.tasks.add": {"time_limit": 77, "annotated": "yes"}},
    task_store_errors_even_if_ignored=True,
    worker_deduplicate_successful_tasks=True,
    result_extended=True,
    result_expires=1000,
    result_failure_expires=5000,
    imports=["imported"],
    timezone="Asia/Tokyo",
)


@app.task(bind=True)
def look(self):
    conf = self.app.conf
    return {
        "annotated": add.annotated,
        "limit": add.time_limit,
        "imported": "imported" in __import__("sys").modules,
        "hour": self.app.now().utcoffset().total_seconds() / 3600,
        "priority": self.request.delivery_info["priority"],
    }


@app.task(ignore_result=True)
def fail_unwanted():
    raise ValueError("kept")


@app.task
def count(path):
    with open(path, "a") as file:
        file.write("x")
    return "once"
"""


@pytest.fixture
def configured(start_worker, app_env, tmp_path):
    """A worker of that application."""
    (tmp_path / "configured.py").write_text(APPLICATION)
    (tmp_path / "imported.py").write_text("")
    app_env["PYTHONPATH"] = str(tmp_path)
    return start_worker(app="configured")


def test_settings_of_tasks(configured, celery_app, client):
    """Annotations, imports, time zone, priorities."""
    sent = celery_app.send_task("configured.look", priority=6)
    expected = {"annotated": "yes", "limit": 77, "imported": True, "hour": 9.0, "priority": 6}
    assert sent.get(timeout=PATIENCE) == expected


def test_settings_of_results(configured, celery_app, client):
    """What is stored, of whom, and for how long."""
    good = tasks.add.delay(1, 2)
    assert good.get(timeout=PATIENCE) == 3
    assert (stored(client, good.id)["name"], stored(client, good.id)["kwargs"]) == ("bench.tasks.add", {})
    assert 990 < client.ttl(TASK_META + good.id) <= 1000
    bad = celery_app.send_task("configured.fail_unwanted")
    found = eventually(lambda: stored(client, bad.id), PATIENCE)
    assert (found["status"], found["result"]["exc_message"]) == ("FAILURE", ["kept"])
    assert 4990 < client.ttl(TASK_META + bad.id) <= 5000


def test_a_task_that_has_succeeded_is_not_run_again(configured, celery_app, client, tmp_path):
    """`worker_deduplicate_successful_tasks`: a message that comes a second time finds its result."""
    path = tmp_path / "runs"
    first = celery_app.send_task("configured.count", (str(path),), queue="queue_0")
    assert first.get(timeout=PATIENCE) == "once"
    wait_settled(client)
    again = message(
        "configured.count", (str(path),), headers={"id": first.id, "root_id": first.id, "redelivered": True},
        properties={"correlation_id": first.id, "delivery_info": {"exchange": "", "routing_key": "queue_0", "redelivered": True}},
    )
    client.lpush("queue_0", again)
    behind = tasks.add.apply_async((1, 2), queue="queue_0")
    assert behind.get(timeout=PATIENCE) == 3
    wait_settled(client)
    assert path.read_text() == "x"


def test_compressed_results(start_worker, app_env, celery_app, client, tmp_path):
    """`result_compression` of the worker; who reads needs no setting."""
    (tmp_path / "compressed.py").write_text("from imgbackend.celery import app\napp.conf.result_compression = 'zlib'\n")
    app_env["PYTHONPATH"] = str(tmp_path)
    start_worker(app="compressed")
    sent = tasks.add.delay([0] * 500, [1] * 500)
    assert sent.get(timeout=PATIENCE) == [0] * 500 + [1] * 500
    raw = client.get(TASK_META + sent.id)
    assert raw.startswith(b"\0celery-compressed\0") and zlib.decompress(raw[raw.index(b"x\x9c"):])
