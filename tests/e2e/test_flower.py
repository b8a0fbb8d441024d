"""Flower, as people run it: its API and the data of its pages, against the daemon. The pages: test_flower_pages.py."""
import re

from harness.flower import PATIENCE
from harness.waiting import eventually

from bench import tasks


def counted(flower, task):
    """How many events of a task by this name it has heard, by type."""
    found = re.findall(rf'(?m)^flower_events_total{{.*task="{task}",type="task-(\w+)".*}} (\S+)$', flower.ask("/metrics"))
    return {kind: sum(float(count) for other, count in found if other == kind) for kind, _ in found}


def test_flower_shows_workers_and_tasks(fairstalk, celery_app, flower):
    """Every worker is a node; tasks have all their fields, from the first event that Flower asks for to the last."""
    daemon = fairstalk()
    eventually(lambda: list(flower.alive().values()) == [True, True], PATIENCE, lambda: str(flower.alive()))
    names = sorted(flower.alive())
    assert [name.partition("@")[0] for name in names] == ["worker1", "worker2"]
    eventually(lambda: daemon.log().count("a monitor has asked for it") == 2, PATIENCE, daemon.log)

    sent = [tasks.add.delay(n, 1) for n in range(20)]
    failed = tasks.fail.delay("no such product")
    retried = tasks.flaky.delay(1)
    runs = tasks.sleep.delay(300)
    for number, result in enumerate(sent):
        info = flower.task(result, "SUCCESS")
        wanted = {"name": "bench.tasks.add", "args": f"({number}, 1)", "kwargs": "{}", "result": str(number + 1)}
        assert {key: info[key] for key in wanted} == wanted
        assert info["received"] <= info["started"] <= info["succeeded"] and info["runtime"] >= 0
        assert info["worker"] in names and info["root_id"] == info["uuid"] == result.id
    info = flower.task(failed, "FAILURE")
    assert info["exception"] == "ValueError('no such product')" and "Traceback" in info["traceback"]
    # Its two attempts may be of two workers, whose words have no order between them.
    flaky = lambda: counted(flower, "bench.tasks.flaky")
    eventually(lambda: flaky().get("succeeded") == flaky().get("retried") == 1, PATIENCE, lambda: str(flaky()))
    assert flaky()["started"] == 2 and retried.get(timeout=PATIENCE) == 1
    assert flower.task(runs, "STARTED")["succeeded"] is None
    listed = flower.json("/api/tasks")
    assert {result.id for result in (*sent, failed, retried, runs)} == set(listed)

    rows = {row["hostname"]: row for row in flower.json("/workers?json=1")["data"]}
    assert sorted(rows) == names
    assert sum(row["task-succeeded"] for row in rows.values()) == len(sent) + 1
    for row in rows.values():
        assert (row["status"], row["sw_ident"], len(row["loadavg"])) == (True, "fairstalk", 3)
        assert row["pid"] in daemon.pids("worker")
    assert counted(flower, "bench.tasks.add")["succeeded"] == len(sent)

    flower.ask(f"/api/task/revoke/{runs.id}?terminate=true", post=True)
    assert flower.task(runs, "REVOKED")["revoked"]

    # Nothing of a reload is seen but other pids.
    assert daemon.call("reload", "--pid", daemon.pid).returncode == 0
    eventually(lambda: {row["pid"] for row in flower.json("/workers?json=1")["data"]} == set(daemon.pids("worker")), PATIENCE)
    assert flower.alive() == {name: True for name in names}
    assert daemon.stop() == 0
    eventually(lambda: flower.alive() == {name: False for name in names}, PATIENCE)
