"""`fairstalk.noop`: the whole way of a message, without a task."""
import json
import signal
import time

import pytest
from harness.broker import message, stored, unclaimed, wait_settled
from harness.daemon import merged
from harness.waiting import eventually

from imgbackend.routing import get_queue_for_user

NOOP = "fairstalk.noop"
NO_PYTHON = {"python": None, "workers": {"processes": 1}, 'tasks."first"': {"command": ["/bin/true"]}}


@pytest.mark.parametrize("sections", [{}, NO_PYTHON], ids=["beside an application", "without Python"])
def test_it_answers(celery_app, client, fairstalk, sections):
    """Whatever else there is to run: `enqueue --wait` shows that messages come through; Python sees a result, too."""
    daemon = fairstalk(**sections)
    done = daemon.call("enqueue", NOOP, "--user", 42, "--kwargs", '{"user_id": 42}', "--wait")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["result"]) == ("SUCCESS", None)
    assert celery_app.send_task(NOOP, queue="queue_3").get(timeout=30) is None
    quiet = celery_app.send_task(NOOP, ignore_result=True)
    eventually(lambda: unclaimed(client) == 0)
    wait_settled(client)
    assert stored(client, quiet.id) is None
    assert daemon.dead_letters() == []


@pytest.mark.parametrize("sections", [{}, NO_PYTHON], ids=["beside an application", "without Python"])
def test_it_is_a_task_like_any_other(celery_app, client, fairstalk, sections):
    """It expires, is revoked, waits for its time; what can't be read is a dead letter."""
    daemon = fairstalk(**sections)
    late, taken_back = message(NOOP, headers={"expires": "2020-01-01T00:00:00+00:00"}), message(NOOP)
    ids = [json.loads(sent)["headers"]["id"] for sent in (late, taken_back)]
    assert daemon.call("revoke", ids[1]).returncode == 0
    client.lpush("queue_0", late, taken_back)
    for task_id in ids:
        eventually(lambda: (stored(client, task_id) or {}).get("status") == "REVOKED", 30)
    begin = time.time()
    assert celery_app.send_task(NOOP, countdown=1).get(timeout=30) is None
    assert time.time() - begin >= 1
    client.lpush("queue_0", message(NOOP, body=b"{"))
    client.lpush("queue_0", message(NOOP, body=b'[[], {}, {"chain": [{"task": "t"}]}]'))
    eventually(lambda: len(daemon.dead_letters()) == 2, 30)
    assert sorted(letter["reason"] for letter in daemon.dead_letters()) == ["command-in-canvas", "malformed"]


def test_what_needs_a_slot_keeps_its_place_behind_them(celery_app, client, fairstalk, tmp_path):
    """Where many of them were claimed without a slot, commands that come behind start in order, one slot's worth at once."""
    order = tmp_path / "order"
    keep = {"command": ["/bin/sh", "-c", 'cat >> "$0"; echo >> "$0"', str(order)], "max_retries": 0}
    daemon = fairstalk(**merged(NO_PYTHON, {"workers": {"concurrency": 1}, 'tasks."keep"': keep}))
    daemon.signal(signal.SIGTSTP)
    daemon.notify.wait_for(lambda state: state.get("STATUS", "").startswith("paused"))
    queue = get_queue_for_user(7)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(600):
            task = "keep" if number >= 300 and number % 20 == 0 else NOOP
            pipeline.lpush(queue, message(task, [number], {"user_id": 7}, queue, {"ignore_result": True}))
        pipeline.execute()
    daemon.signal(signal.SIGCONT)
    eventually(lambda: unclaimed(client) == 0, 60)
    wait_settled(client)
    numbers = [json.loads(line)["args"][0] for line in order.read_text().splitlines() if line]
    assert numbers == list(range(300, 600, 20))
    assert daemon.dead_letters() == []


def test_many_share_a_round_trip(client, fairstalk):
    """No slot limits how many are claimed at once: 5,000 of ten users in some hundred exchanges, filing included."""
    for number in range(5000):
        user = number % 10
        client.lpush(get_queue_for_user(user), message(NOOP, [], {"user_id": user}, headers={"ignore_result": True}))
    before = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    daemon = fairstalk(**NO_PYTHON)
    eventually(lambda: unclaimed(client) == 0, 60)
    wait_settled(client)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before < 400
    assert daemon.dead_letters() == []
