"""Slots that come and go: with what waits, by remote control, and at a reload."""
import os
import signal

import pytest
from harness.broker import of_fleet
from harness.daemon import merged
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import queue_of

PATIENCE = 60
ONE = {"workers": {"processes": 1, "concurrency": {"min": 1, "max": 4}, "shrink_after": "1s", "drain_timeout": "1s"}}


def control(app, command, arguments=None):
    """The answer of the only worker."""
    (found,) = app.control.broadcast(command, arguments=arguments or {}, reply=True, timeout=20, limit=1)
    (answer,) = found.values()
    return answer


def runners(daemon):
    return daemon.pids("runner of worker")


def slots(client):
    """What the fleet counts on."""
    return [int(count) for count in client.hvals(of_fleet("slots"))]


def of_status(daemon):
    """What `fairstalk status` counts."""
    (status,) = daemon.ask("status")
    return sum(worker["figures"]["figures"]["slots"] for worker in status["workers"])


@pytest.mark.parametrize("kind", ["python", "command"])
def test_slots_come_with_work_and_go_with_quiet(fairstalk, celery_app, client, ledger, kind):
    """Four long tasks run at once where one slot was; afterwards runners and their memory are gone."""
    sleep = {'tasks."nap"': {"command": ["/bin/sleep", "3"]}}
    daemon = fairstalk(**merged(ONE, sleep))
    assert (len(runners(daemon)), slots(client)) == (1, [1])
    assert of_status(daemon) == 1
    if kind == "python":
        sent = [tasks.record.apply_async((1, n, str(ledger), 3.0)) for n in range(9)]
        ledger.wait("start", 4)
    else:
        sent = [celery_app.send_task("nap") for _ in range(9)]
        eventually(lambda: len(control(celery_app, "active")) == 4, PATIENCE)
    eventually(lambda: slots(client) == [4], PATIENCE)
    assert len(control(celery_app, "active")) <= 4
    stats = control(celery_app, "stats")["autoscaler"]
    assert (stats["max"], stats["min"], stats["current"]) == (4, 1, 4)
    for task in sent:
        task.get(timeout=PATIENCE)
    eventually(lambda: len(runners(daemon)) == 1, PATIENCE, daemon.log)
    eventually(lambda: (slots(client), of_status(daemon)) == ([1], 1), PATIENCE)
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    assert daemon.dead_letters() == []


def test_nothing_grows_for_what_has_a_slot(fairstalk, celery_app, client, ledger):
    """Work that fits needs no more; nor does work that waits for something else than a slot."""
    grown = {"workers": {"concurrency": {"min": 2, "max": 4}}, "tenancy": {"max_concurrency": 1}}
    daemon = fairstalk(**merged(ONE, grown))
    first = [tasks.record.apply_async((user, user, str(ledger), 1.0)) for user in (1, 2)]
    for task in first:
        task.get(timeout=PATIENCE)
    send = lambda n: tasks.record.apply_async((3, 10 + n, str(ledger), 0.1), queue=queue_of(3))
    bulk = [send(n) for n in range(20)]
    for task in bulk:
        task.get(timeout=PATIENCE)
    assert "slots in place of" not in daemon.log()
    assert (len(runners(daemon)), slots(client)) == (2, [2])


def test_a_fixed_number_is_changed(fairstalk, celery_app, client, ledger):
    """`pool_grow` and `pool_shrink`; what a slot that goes is running is finished first."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 2, "drain_timeout": "1s"})
    assert control(celery_app, "autoscale", {"max": 3, "min": 1}) == {"error": "ValueError('Autoscale not enabled')"}
    assert control(celery_app, "pool_grow", {"n": 2}) == {"ok": "pool will grow"}
    sent = [tasks.record.apply_async((n, n, str(ledger), 2.0)) for n in range(4)]
    ledger.wait("start", 4)
    assert slots(client) == [4]
    before = set(runners(daemon))
    assert control(celery_app, "pool_shrink", {"n": 3}) == {"ok": "pool will shrink"}
    for n, task in enumerate(sent):
        assert task.get(timeout=PATIENCE) == n
    eventually(lambda: len(runners(daemon)) == 1, PATIENCE)
    assert set(runners(daemon)) < before
    assert sorted(ledger.numbers("start")) == [0, 1, 2, 3]
    for n in (1, 300, -1000):
        assert "ValueError" in control(celery_app, "pool_shrink", {"n": n})["error"]
    assert control(celery_app, "pool_grow") == {"ok": "pool will grow"}
    eventually(lambda: len(runners(daemon)) == 2, PATIENCE)
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3


def test_bounds_are_changed(fairstalk, celery_app, client):
    """`autoscale` by remote control, and both bounds by a reload; `pool_grow` refers to it."""
    daemon = fairstalk(**ONE)
    for command in ("pool_grow", "pool_shrink"):
        assert control(celery_app, command)["error"] == (
            f"{command} is not supported with autoscale. Adjust autoscale range instead.")
    assert control(celery_app, "autoscale", {"max": 6, "min": 3}) == {"ok": "autoscale now max=6 min=3"}
    eventually(lambda: (len(runners(daemon)), slots(client)) == (3, [3]), PATIENCE)
    assert control(celery_app, "autoscale", {"max": 2, "min": 5}) == {"error": "ValueError('min is above max')"}
    assert control(celery_app, "autoscale", {"min": 1}) == {"ok": "autoscale now max=6 min=1"}
    eventually(lambda: len(runners(daemon)) == 1, PATIENCE)
    text = daemon.config_file.read_text()
    daemon.configure(text.replace('"min" = 1, "max" = 4', '"min" = 2, "max" = 5'))
    assert daemon.config_file.read_text() != text
    done = daemon.call("reload", "--pid", str(daemon.popen.pid))
    assert "workers.concurrency" in done.stdout, done.stdout + done.stderr
    eventually(lambda: len(runners(daemon)) == 2, PATIENCE)
    stats = control(celery_app, "stats")["autoscaler"]
    assert (stats["max"], stats["min"], stats["current"]) == (5, 2, 2)


def test_a_task_outlives_its_slot_and_its_end_is_known(fairstalk, celery_app, client, ledger):
    """A runner killed in a slot that is about to go: the message comes back and runs in another."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 2, "drain_timeout": "1s"})
    sent = [tasks.record.apply_async((n, n, str(ledger), 1.5)) for n in range(2)]
    ledger.wait("start", 2)
    control(celery_app, "pool_shrink")
    for pid in runners(daemon):
        os.kill(pid, signal.SIGKILL)
    assert [task.get(timeout=PATIENCE) for task in sent] == [0, 1]
    eventually(lambda: len(runners(daemon)) == 1, PATIENCE)
    assert daemon.dead_letters() == []
