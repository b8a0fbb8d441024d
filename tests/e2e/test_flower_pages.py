"""Flower's pages in a browser, against the daemon under load.

`FLOWER_PICTURES=docs` keeps the pictures of docs/compatibility.md.
"""
import os
import signal
from pathlib import Path

import pytest
from harness.flower import PATIENCE, browser
from harness.waiting import eventually

from bench import tasks

NODES = ["worker1@web1", "worker2@web1"]


@pytest.fixture
def daemon(fairstalk, celery_app):
    """Two nodes with two slots each, with names that look the same on every machine."""
    return fairstalk(workers={"name": "worker%i@web1", "drain_timeout": "1s"})


@pytest.fixture
def pages(daemon, flower, tmp_path):
    """A browser, once Flower hears of tasks."""
    eventually(lambda: flower.alive() == dict.fromkeys(NODES, True), PATIENCE, lambda: str(flower.alive()))
    eventually(lambda: daemon.log().count("a monitor has asked for it") == 2, PATIENCE, daemon.log)
    with browser(flower, tmp_path) as found:
        yield found


@pytest.fixture
def pictures(tmp_path):
    """Where pictures go."""
    wanted = os.environ.get("FLOWER_PICTURES")
    return Path(wanted).resolve() if wanted else tmp_path


def busy(app):
    """How many tasks run in each node."""
    found = app.control.inspect(timeout=10, limit=2).active() or {}
    return [len(found[name]) for name in NODES if name in found]


def details(pages, task_id):
    """What the page of a task says, by its words."""
    pages.open(f"/task/{task_id}")
    return dict(zip(pages.texts("#task-page dt"), pages.texts("#task-page dd")))


def until_state(pages, task_id, state):
    """The same, once its state is this one."""
    return pages.until(lambda: (found := details(pages, task_id)).get("Status") == state and found)


def test_workers_and_their_tasks(pages, pictures):
    """Counts go up while one looks; a task is found by its state, and its page says all there is."""
    for _ in range(2):
        tasks.sleep.delay(600)
    added = tasks.add.delay(2, 3)
    failed = tasks.fail.delay("no such product")
    for number in range(400):
        tasks.slow_noop.delay(user_id=number % 7, seconds=0.02)

    pages.open("/workers")
    rows = lambda: sorted(pages.rows("#workers-table"))
    pages.until(lambda: [row[:2] for row in rows()] == [[name, "Online"] for name in NODES])
    sums = lambda: [sum(int(row[column]) for row in rows()) for column in (2, 3, 4, 5)]
    pages.until(lambda: sums()[3] > 100)
    pages.until(lambda: sums() == [2, 404, 1, 401])
    cards = "#workers-online, #workers-active, #workers-succeeded, #workers-failed"
    pages.until(lambda: pages.texts(cards) == ["2", "2", "401", "1"])
    pages.picture(pictures / "flower-workers.png")

    pages.open("/tasks")
    pages.until(lambda: len(pages.rows("#tasks-table")) == 15)
    pages.click("[data-task-state=FAILURE]")
    pages.until(lambda: [row[:3] for row in pages.rows("#tasks-table")] == [["bench.tasks.fail", failed.id, "FAILURE"]])
    pages.click("#tasks-table tbody td a[href^='/task/']")
    pages.until(lambda: pages.texts("#task-page dt"))
    assert pages.driver.current_url.endswith(failed.id)
    found = details(pages, failed.id)
    assert found["Exception"] == "ValueError('no such product')" and "in fail" in found["Traceback"]

    found = until_state(pages, added.id, "SUCCESS")
    pages.picture(pictures / "flower-task.png")
    wanted = {"Name": "bench.tasks.add", "Arguments": "(2, 3)", "Keyword arguments": "{}", "Result": "5"}
    assert {word: found[word] for word in wanted} == wanted
    assert found["UUID"].startswith(added.id) and found["Worker"] in NODES
    assert {"Received", "Started", "Succeeded", "Runtime"} <= set(found)


def test_queues_are_as_long_as_their_lists(daemon, pages, celery_app):
    """Flower asks Redis for the lengths of lists, so it does not see what waits in lanes. `fairstalk queues` does."""
    for _ in range(4):
        tasks.sleep.delay(600)
    eventually(lambda: busy(celery_app) == [2, 2], PATIENCE, lambda: str(busy(celery_app)))
    daemon.signal(signal.SIGTSTP)
    daemon.notify.wait_for(lambda state: state.get("STATUS", "").startswith("paused"))
    for priority in (0, 0, 0, 4, 9):
        tasks.noop.apply_async((7,), queue="queue_15", priority=priority)
    counted = lambda: {row["queue"]: row["waiting"] for row in daemon.ask("queues")}

    def shown():
        pages.open("/broker")
        return {row[0]: row[1] for row in pages.rows("#queue-table")}

    pages.until(lambda: len(shown()) == 20)
    pages.until(lambda: shown()["queue_15"] == "5")
    assert counted()["queue_15"] == 5
    daemon.signal(signal.SIGCONT)
    pages.until(lambda: shown()["queue_15"] == "0")
    assert counted()["queue_15"] == 5


def test_pool_grows_and_shrinks(pages, celery_app):
    """By the buttons of a node's page; the other node stays as it is."""

    def slots():
        found = celery_app.control.inspect(timeout=10, limit=2).stats() or {}
        return [len(found[name]["pool"]["processes"]) for name in NODES if name in found]

    pages.open(f"/worker/{NODES[0]}")
    pages.fill("#pool-size", 3)
    pages.click("#worker-pool-grow")
    pages.told("Growing 'worker1@web1' worker's pool by 3")
    eventually(lambda: slots() == [5, 2], PATIENCE, lambda: str(slots()))
    running = [tasks.sleep.delay(600) for _ in range(7)]
    eventually(lambda: busy(celery_app) == [5, 2], PATIENCE, lambda: str(busy(celery_app)))
    for result in running:
        result.revoke(terminate=True, signal="KILL")
    eventually(lambda: busy(celery_app) == [0, 0], PATIENCE, lambda: str(busy(celery_app)))
    pages.fill("#pool-size", 4)
    pages.click("#worker-pool-shrink")
    pages.told("Shrinking 'worker1@web1' worker's pool by 4")
    eventually(lambda: slots() == [1, 2], PATIENCE, lambda: str(slots()))
    pages.fill("#min-autoscale", 1)
    pages.fill("#max-autoscale", 4)
    pages.click("#worker-pool-autoscale")
    pages.told("Autoscale not enabled")


def test_tasks_are_revoked(pages, celery_app):
    """One that runs is ended; one that waits for its time won't be run."""
    runs, waits = tasks.sleep.delay(600), tasks.sleep.apply_async((1,), countdown=3600)
    for number in range(200):
        tasks.slow_noop.delay(user_id=number % 7, seconds=0.05)
    until_state(pages, runs.id, "STARTED")
    pages.click("#task-terminate")
    pages.told("Revoked")
    assert until_state(pages, runs.id, "REVOKED")["Worker"] in NODES
    assert runs.state == "REVOKED"
    until_state(pages, waits.id, "RECEIVED")
    pages.click("#task-revoke")
    pages.told("Revoked")
    revoked = lambda: celery_app.control.inspect(timeout=10, limit=2).revoked() or {}
    eventually(lambda: all(waits.id in revoked().get(name, ()) for name in NODES), PATIENCE, lambda: str(revoked()))
