"""What the daemon costs Redis, at rest and at work, and that its log says whose line each one is."""
import json

import pytest
from harness.broker import wait_settled
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

PATIENCE = 60


def calls(client):
    """Commands executed by the server so far, by name; those of scripts count too."""
    return {name[len("cmdstat_") :]: stat["calls"] for name, stat in client.info("commandstats").items()}


def uptime(client):
    """The server's clock, seconds."""
    return float(client.time()[0])


def test_an_idle_daemon_asks_little(celery_app, client, fairstalk):
    """Over ten seconds and with two workers, at most two scripts a second; and a task that comes then is seen."""
    fairstalk()
    tasks.add.delay(1, 2).get(timeout=PATIENCE)
    wait_settled(client)
    # Our own result consumer is a client too, so only what workers use is counted.
    own = ("evalsha", "eval", "brpop", "blpop", "hello", "client|tracking", "subscribe")
    before, start = calls(client), uptime(client)
    eventually(lambda: uptime(client) >= start + 10, timeout=15)
    after = calls(client)
    asked = sum(after.get(name, 0) - before.get(name, 0) for name in own)
    assert 1 <= asked <= 20
    assert after.get("brpop", 0) == 0
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3


def test_a_task_to_an_idle_daemon_does_not_have_all_look_twice(celery_app, client, fairstalk):
    """A push rings for both workers, and so does the claim: one claims and settles, the other looks once in vain.

    The claim is mostly that of pickup.lua, the only script that counts with HINCRBY; who looks a moment later makes a step.
    """
    count = 40
    fairstalk()
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    wait_settled(client)
    before = calls(client)
    for number in range(count):
        assert enqueue_task_to_user_queue(tasks.add, number, number, 1).get(timeout=PATIENCE) == number + 1
        wait_settled(client)
    after = calls(client)
    assert 2 * count <= after["evalsha"] - before["evalsha"] <= 4.5 * count
    assert after["hincrby"] - before.get("hincrby", 0) > count / 2


@pytest.mark.parametrize("task", [tasks.noop, tasks.noop_result], ids=["without result", "with result"])
def test_a_busy_daemon_asks_once_per_task(celery_app, client, fairstalk, task):
    """A thousand tasks on four slots: no more than one exchange per task, and no other command."""
    count = 1000
    for number in range(count):
        enqueue_task_to_user_queue(task, number % 7, user_id=number % 7)
    before = calls(client)
    fairstalk(workers={"processes": 1, "concurrency": 4})
    eventually(lambda: not any(client.llen(f"queue_{number}") for number in range(20)), PATIENCE)
    wait_settled(client)
    after = calls(client)
    scripts = after["evalsha"] + after.get("eval", 0) - before.get("evalsha", 0) - before.get("eval", 0)
    assert scripts <= 1.1 * count
    # Of the commands that aren't a script's: none from a runner.
    assert after.get("exec", 0) == before.get("exec", 0)


def test_whose_line_it_is(celery_app, fairstalk):
    """Whichever way a task writes, the record carries the task's fields; the level is that of the logger."""
    daemon = fairstalk(log={"format": "json"})
    sent = enqueue_task_to_user_queue(tasks.log_lines, 42, 3)
    other = tasks.log_lines.delay(1)
    assert (sent.get(timeout=PATIENCE), other.get(timeout=PATIENCE)) == (3, 1)
    wanted = {f"{way} {n}" for way in ("task logger", "module logger", "print", "descriptor", "subprocess") for n in range(3)}

    def lines():
        found = [record for record in daemon.records() if record.get("task_id") == sent.id]
        return found if wanted <= {record["message"] for record in found} else None

    found = eventually(lines, what=daemon.log)
    for record in found:
        assert record["task_name"] == "bench.tasks.log_lines"
        assert record["queue"] == get_queue_for_user(42)
        assert record["attempt"] == 1
        assert record["runner_pid"] > 0
    levels = {record["message"]: record["level"].lower() for record in found}
    assert (levels["task logger 0"], levels["module logger 0"][:4]) == ("info", "warn")
    messages = sorted(record["message"] for record in found)
    assert messages == sorted(wanted)
    assert all(json.dumps(record["message"]) for record in daemon.records())
