"""Which signals an application gets to hear, from whom, and in which kind of process."""
import json
import pickle

import compat_tasks as t
import pytest
from billiard.exceptions import WorkerLostError
from celery.exceptions import TaskRevokedError
from stage import PATIENCE
from signalled import LIFE

from harness.broker import message
from harness.waiting import eventually

PLUGIN = "signalled"
SLOTS = 1
# Else fairstalk makes a dead letter of what the application would refuse, without asking it.
SECTIONS = {"delivery": {"accept": ["json", "pickle"]}}


def heard(worker):
    """Everything so far."""
    return [json.loads(line) for line in worker.client.lrange("signals", 0, -1)]


def of_task(worker, result, last):
    """Signals of one task in their order, once the last one was heard."""

    def all_of_it():
        found = [line for line in heard(worker) if line["task"] == result.id]
        return found if last in [line["signal"] for line in found] else None

    return eventually(all_of_it, PATIENCE, lambda: heard(worker))


def names(lines):
    """Of the signals alone."""
    return [line["signal"] for line in lines]


def test_a_task_that_works(worker):
    """Received, run, done; received from the consumer, which knows the application and the node."""
    result = t.add.delay(1, 2)
    lines = of_task(worker, result, "task_postrun")
    assert names(lines) == ["task_received", "task_prerun", "task_postrun"]
    assert lines[0]["sender"]["app"] == "compat" and "@" in lines[0]["sender"]["node"]
    assert lines[1]["sender"] == lines[2]["sender"] == "compat_tasks.add"
    assert lines[2]["arguments"] == ["args", "kwargs", "retval", "state", "task", "task_id"]
    assert "task_success" in names(heard(worker))


def test_a_task_that_fails(worker):
    """`task_failure`; and of one that is tried again `task_retry`, then all of it once more."""
    failed = of_task(worker, t.fail.delay(), "task_postrun")
    assert names(failed) == ["task_received", "task_prerun", "task_failure", "task_postrun"]
    assert failed[2]["arguments"] == ["args", "einfo", "exception", "kwargs", "task_id", "traceback"]
    retried = t.try_again.delay(1)
    assert retried.get(timeout=PATIENCE) == 1
    eventually(lambda: names(of_task(worker, retried, "task_postrun")).count("task_postrun") == 2, PATIENCE)
    again = ["task_received", "task_prerun", "task_postrun"] * 2 + ["task_retry"]
    assert sorted(names(of_task(worker, retried, "task_postrun"))) == sorted(again)


def test_tasks_that_are_not_run(worker):
    """Expired, revoked, of an unknown name, with arguments nobody can read."""
    expired = t.add.apply_async((1, 2), expires=-1)
    (line,) = of_task(worker, expired, "task_revoked")
    assert line["sender"] == "compat_tasks.add"
    assert line["detail"] == {"terminated": False, "expired": True, "signum": None}

    worker.app.send_task("compat_tasks.nowhere", task_id="unknown-1")
    unknown = eventually(lambda: [x for x in heard(worker) if x["signal"] == "task_unknown"], PATIENCE)[0]
    assert unknown["task"] == "unknown-1" and unknown["sender"]["app"] == "compat"
    assert unknown["arguments"] == ["exc", "id", "message", "name"]

    pickled = {"content-type": "application/x-python-serialize", "content-encoding": "binary"}
    worker.client.lpush("celery", message("compat_tasks.add", body=pickle.dumps(([1, 2], {}, {})), queue="celery", **pickled))
    rejected = eventually(lambda: [x for x in heard(worker) if x["signal"] == "task_rejected"], PATIENCE)[0]
    assert rejected["sender"]["app"] == "compat" and rejected["arguments"] == ["exc", "message"]


def test_a_task_that_is_terminated(worker):
    """`task_revoked` says by which signal."""
    running = t.wait_for.delay(str(worker.directory / "never"))
    of_task(worker, running, "task_prerun")
    worker.app.control.revoke(running.id, terminate=True)
    with pytest.raises(TaskRevokedError):
        running.get(timeout=PATIENCE)
    # Celery's pool process is ended by the signal and may still say task_postrun, before or after its parent says this.
    (line,) = [x for x in of_task(worker, running, "task_revoked") if x["signal"] == "task_revoked"]
    assert line["detail"] == {"terminated": True, "expired": False, "signum": 15}


def test_a_task_that_is_lost(worker):
    """`task_failure` of a task whose process was killed."""
    lost = t.die.delay()
    with pytest.raises(WorkerLostError):
        lost.get(timeout=PATIENCE)
    assert names(of_task(worker, lost, "task_failure"))[-1] == "task_failure"


def test_an_error_outside_of_the_task(worker):
    """`task_internal_error`."""
    wrong = worker.app.send_task("compat_tasks.handler_fails")
    lines = of_task(worker, wrong, "task_internal_error")
    assert lines[-1]["sender"] == "compat_tasks.handler_fails"


def test_the_life_of_a_worker(worker):
    """Once each, in this order; those of the pool's processes in the process that runs the tasks. Has to be last."""
    worker.stop()
    lines = [line for line in heard(worker) if line["signal"] in LIFE]
    main = [line for line in lines if "_process" not in line["signal"]]
    assert names(main) == [
        "celeryd_init", "worker_init", "celeryd_after_setup", "worker_ready", "worker_shutting_down", "worker_shutdown"
    ]
    node = main[0]["sender"]
    assert [line["sender"] for line in main] == [
        node, {"node": node, "app": "compat"}, node, {"node": node, "app": "compat"}, node,
        {"node": node, "app": "compat"},
    ]
    assert len({line["pid"] for line in main}) == 1
    assert main[-2]["detail"] == {"sig": "SIGTERM", "how": "Warm"}
    runs = {line["pid"] for line in heard(worker) if line["signal"] == "task_prerun"}
    processes = [line for line in lines if line["signal"] in ("worker_before_create_process", "worker_process_init")]
    begun = {line["pid"] for line in processes if line["signal"] == "worker_process_init"}
    assert [line["pid"] for line in processes if line["pid"] not in begun] == [main[0]["pid"]] * len(begun)
    assert processes[0]["signal"] == "worker_before_create_process"
    assert runs <= begun and main[0]["pid"] not in begun
    ended = [line for line in lines if line["signal"] == "worker_process_shutdown"]
    assert ended and ended[-1]["pid"] in begun
