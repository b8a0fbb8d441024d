"""Flower, as people run it: its pages' data and its API, against the daemon."""
import json
import re
import sys
import urllib.request

import pytest
from harness import PROJECT
from harness.daemon import clean_environment
from harness.processes import ProcessUnderTest
from harness.redis_server import free_port
from harness.waiting import eventually

from bench import tasks

PATIENCE = 60


class Flower(ProcessUnderTest):
    """`celery flower` on a port of its own."""

    def __init__(self, env, directory):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "celery", "-A", "imgbackend", "flower", "--address=127.0.0.1", f"--port={port}"]
        environment = clean_environment(**env, FLOWER_UNAUTHENTICATED_API="true")
        super().__init__(command, directory / "flower.log", environment, PROJECT)

    def ask(self, path, post=False):
        """The text it answers with; none where it doesn't (yet)."""
        request = urllib.request.Request(self.url + path, data=b"" if post else None)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def json(self, path, **options):
        """The same, read."""
        return json.loads(self.ask(path, **options) or "{}")

    def task(self, result, state):
        """What it knows of a task once that has this state."""
        path = f"/api/task/info/{result.id}"
        seen = lambda: self.json(path)
        return eventually(lambda: seen().get("state") == state and seen(), PATIENCE, lambda: f"{seen()}\n{self.log()}")


@pytest.fixture
def flower(app_env, tmp_path):
    """A running Flower."""
    flower = Flower(app_env, tmp_path)
    try:
        eventually(lambda: flower.ask("/healthcheck"), PATIENCE, flower.log)
        yield flower
    finally:
        flower.clear_away()


def test_flower_shows_workers_and_tasks(fairstalk, celery_app, flower):
    """Every worker is a node; tasks have all their fields, from the first event that Flower asks for to the last."""
    daemon = fairstalk()
    alive = lambda: flower.json("/api/workers?status=1")
    eventually(lambda: list(alive().values()) == [True, True], PATIENCE, lambda: str(alive()))
    names = sorted(alive())
    assert [name.partition("@")[0] for name in names] == ["worker1", "worker2"]
    eventually(lambda: daemon.log().count("a monitor has asked for it") == 2, PATIENCE, daemon.log)

    sent = [tasks.add.delay(n, 1) for n in range(20)]
    failed = tasks.fail.delay("no such product")
    retried = tasks.flaky.delay(1, countdown=1)
    runs = tasks.sleep.delay(300)
    for number, result in enumerate(sent):
        info = flower.task(result, "SUCCESS")
        wanted = {"name": "bench.tasks.add", "args": f"({number}, 1)", "kwargs": "{}", "result": str(number + 1)}
        assert {key: info[key] for key in wanted} == wanted
        assert info["received"] <= info["started"] <= info["succeeded"] and info["runtime"] >= 0
        assert info["worker"] in names and info["root_id"] == info["uuid"] == result.id
    info = flower.task(failed, "FAILURE")
    assert info["exception"] == "ValueError('no such product')" and "Traceback" in info["traceback"]
    assert flower.task(retried, "SUCCESS")["retries"] == 1
    assert flower.task(runs, "STARTED")["succeeded"] is None
    listed = flower.json("/api/tasks")
    assert {result.id for result in (*sent, failed, retried, runs)} == set(listed)

    rows = {row["hostname"]: row for row in flower.json("/workers?json=1")["data"]}
    assert sorted(rows) == names
    assert sum(row["task-succeeded"] for row in rows.values()) == len(sent) + 1
    for row in rows.values():
        assert (row["status"], row["sw_ident"], len(row["loadavg"])) == (True, "fairstalk", 3)
        assert row["pid"] in daemon.pids("worker")
    succeeded = re.findall(r'(?m)^flower_events_total\{.*task="bench.tasks.add",type="task-succeeded".*\} (\S+)$', flower.ask("/metrics"))
    assert sum(map(float, succeeded)) == len(sent), flower.ask("/metrics")

    flower.ask(f"/api/task/revoke/{runs.id}?terminate=true", post=True)
    assert flower.task(runs, "REVOKED")["revoked"]

    # Nothing of a reload is seen but other pids.
    assert daemon.call("reload", "--pid", daemon.pid).returncode == 0
    eventually(lambda: {row["pid"] for row in flower.json("/workers?json=1")["data"]} == set(daemon.pids("worker")), PATIENCE)
    assert alive() == {name: True for name in names}
    assert daemon.stop() == 0
    eventually(lambda: alive() == {name: False for name in names}, PATIENCE)
