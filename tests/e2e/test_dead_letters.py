"""A message that can't be run lies in the dead letters, whole and with its reason, and harms nothing else."""
import base64
import json

import pytest
from celery import group
from celery.exceptions import NotRegistered
from celery.result import AsyncResult
from harness.broker import message, stored, wait_settled
from harness.waiting import eventually

from bench import tasks

PATIENCE = 20
NOOP = "bench.tasks.noop"
GOOD = message(NOOP)
DEEP = "[" * 200 + "]" * 200


def with_header(**headers):
    """A message with one header that is not what it should be."""
    return message(NOOP, headers=headers)


MALFORMED = {
    "empty": b"",
    "text": b"good morning",
    "truncated": GOOD[: len(GOOD) // 2],
    "array": b"[1, 2, 3]",
    "number": b"17",
    "not UTF-8": GOOD.replace(b"utf-8", b"\xff\xfe\x80"),
    "NUL": GOOD.replace(b'"lang"', b'"la\0ng"'),
    "headers are a list": message(NOOP).replace(b'"headers": {', b'"headers": [], "x": {'),
    "task is a number": with_header(task=7),
    "id is a list": with_header(id=["a"]),
    "retries is a text": with_header(retries="many"),
    "timelimit is a text": with_header(timelimit="soon"),
    "eta is no time": with_header(eta="tomorrow, perhaps"),
    "bad base64": GOOD.replace(b'"body": "', b'"body": "%%%'),
    "body is not a triple": message(NOOP, body=json.dumps({"x": 1})),
    "body is not JSON": message(NOOP, body=b"\x00\x01\x02"),
    "unknown compression": with_header(compression="application/x-nobody-knows"),
    "not compressed": with_header(compression="application/x-gzip"),
    "unknown body encoding": message(NOOP, properties={"body_encoding": "rot13"}),
    "nested": GOOD.replace(b'"id":', b'"task": %s, "id":' % DEEP.encode()),
}


@pytest.fixture
def daemon(celery_app, fairstalk):
    """One worker with two slots, that takes messages of at most 64 KiB."""
    return fairstalk(workers={"processes": 1}, delivery={"max_message_size": "64KiB"})


def letters(daemon, count):
    """The dead letters, as soon as there are so many."""
    found = []

    def all_there():
        found[:] = daemon.dead_letters()
        return len(found) >= count

    eventually(all_there, PATIENCE, lambda: f"{count} dead letters; there are {found}")
    assert len(found) == count
    return found


def check_health(daemon, client):
    """Nothing is claimed, nothing has died, and it works."""
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    wait_settled(client)
    assert "its runner died" not in daemon.log()


def test_malformed_messages(daemon, client):
    """Whatever was pushed, byte for byte; each of them in a queue that names it."""
    for number, raw in enumerate(MALFORMED.values()):
        client.lpush(f"queue_{number}", raw)
    found = {letter["queue"]: letter for letter in letters(daemon, len(MALFORMED))}
    reasons = {name: found[f"queue_{number}"]["reason"] for number, name in enumerate(MALFORMED)}
    assert reasons == dict.fromkeys(MALFORMED, "malformed")
    assert all(letter["detail"] for letter in found.values())
    assert set(client.hvals("fairstalk:dead:messages")) == set(MALFORMED.values())
    assert len(daemon.call("dead", "list").stdout.splitlines()) == 2 * len(MALFORMED)
    check_health(daemon, client)


def test_refused_messages(daemon, client):
    """Content types nobody wants, and what is too large, are not even read."""
    tasks.add.apply_async((1, 2), serializer="pickle", queue="queue_1")
    client.lpush("queue_2", message(NOOP, **{"content-type": "application/x-nobody-knows"}))
    tasks.noop.apply_async(("x" * 65536,), queue="queue_3")
    found = {letter["queue"]: letter for letter in letters(daemon, 3)}
    assert {queue: letter["reason"] for queue, letter in found.items()} == {
        "queue_1": "refused-content-type",
        "queue_2": "refused-content-type",
        "queue_3": "too-large",
    }
    assert "application/x-python-serialize" in found["queue_1"]["detail"]
    assert found["queue_1"]["task"] == "bench.tasks.add"
    assert "max_message_size" in found["queue_3"]["detail"]
    check_health(daemon, client)


def test_an_unknown_task(daemon, client, celery_app):
    """The caller is told as by Celery, a chord it belongs to as well, and the message waits for better times."""
    lost = celery_app.send_task("bench.tasks.nobody_wrote_it", (1,), queue="queue_5")
    with pytest.raises(NotRegistered):
        lost.get(timeout=PATIENCE)
    (letter,) = letters(daemon, 1)
    assert (letter["reason"], letter["task"], letter["id"]) == ("unknown-task", "bench.tasks.nobody_wrote_it", lost.id)
    assert letter["queue"] == "queue_5"
    missing = celery_app.signature("bench.tasks.nobody_wrote_it", app=celery_app)
    body = (group([tasks.add.s(1, 1), missing]) | tasks.total.s()).apply_async()
    with pytest.raises(Exception, match="never registered"):
        AsyncResult(body.id).get(timeout=PATIENCE)
    letters(daemon, 2)
    check_health(daemon, client)


def test_what_a_letter_tells(celery_app, fairstalk, client, tmp_path):
    """How it ended, what it said last, whose it was, its traceback; and failures are kept only where that is wanted."""
    kept = {f'tasks."bench.tasks.{task}"': {"keep_failed": True} for task in ("fail_loudly", "reject")}
    daemon = fairstalk(delivery={"max_deliveries": 1}, **kept)
    died = tasks.kill_self.delay(say=[f"line {number}" for number in range(30)])
    failed = tasks.fail_loudly.apply_async(("no luck",), {"user_id": 7}, queue="queue_7")
    rejected = tasks.reject.delay()
    with pytest.raises(ValueError):
        tasks.fail.delay("not kept").get(timeout=PATIENCE)
    found = {letter["id"]: letter for letter in letters(daemon, 3)}
    letter = found[died.id]
    assert (letter["reason"], letter["signal"], letter["attempt"]) == ("runner-lost", "SIGKILL", 1)
    assert letter["output"] == [f"line {number}" for number in range(10, 30)]
    assert letter["runner_pid"] and letter["started"] <= letter["at"]
    letter = found[failed.id]
    assert (letter["reason"], letter["tenant"], letter["queue"]) == ("failed", "7", "queue_7")
    assert letter["exception"] == "ValueError('no luck')"
    assert letter["traceback"].startswith("Traceback") and "fail_loudly" in letter["traceback"]
    assert letter["output"] == ["about to fail: no luck"]
    assert found[rejected.id]["reason"] == "rejected" and "refused by the task" in found[rejected.id]["detail"]
    words = daemon.call("dead", "show", died.id).stdout
    assert "SIGKILL" in words and "    line 29\n" in words
    assert [row["entry"]["id"] for row in daemon.ask("dead", "list", "--tenant", 7)] == [failed.id]
    wait_settled(client)


def test_a_replay_runs(celery_app, fairstalk, client, tmp_path):
    """Mended and put back: the task runs, with all its retries and deliveries before it, and can die again."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1}, delivery={"max_deliveries": 1})
    died = tasks.kill_self.delay(unless=str(tmp_path / "mended"))
    letters(daemon, 1)
    (done,) = daemon.ask("dead", "replay", died.id)
    assert (done["matched"], done["done"]) == (1, 1)
    eventually(lambda: (stored(client, died.id) or {}).get("result") == "alive", PATIENCE)
    again = tasks.kill_self.delay()
    letters(daemon, 1)
    assert daemon.ask("dead", "replay", "--reason", "runner-lost")[0]["done"] == 1
    eventually(lambda: [letter["id"] for letter in daemon.dead_letters()] == [again.id], PATIENCE)
    wait_settled(client)


def test_odd_but_good_messages(daemon, client, ledger):
    """These are run: strange ids, twin delivery tags, unknown and deeply nested members, protocol 1."""
    record = "bench.tasks.record"
    sent = [
        message(record, (1, 0, str(ledger)), headers={"id": "a\0b"}),
        message(record, (1, 1, str(ledger)), properties={"delivery_tag": "twin"}),
        message(record, (1, 2, str(ledger)), properties={"delivery_tag": "twin"}),
        message(record, (1, 3, str(ledger)), headers={"x-own": [1, {"a": None}], "stamps": {"by": ["me"]}}),
        message(record, (1, 4, str(ledger)), body=json.dumps([[1, 4, str(ledger)], {}, None])),
        message(record, (1, 5, str(ledger)), properties={"delivery_tag": None, "expiration": "1000"}),
        message(record, (json.loads(DEEP), 6, str(ledger))),
        message(record, (1, 7, str(ledger)), headers={"x-own": "?"}).replace(b'"?"', DEEP.encode()),
        message(record, (1, 8, str(ledger)), **{"x-own": "?"}).replace(b'"?"', DEEP.encode()),
    ]
    client.lpush("queue_3", *sent)
    ledger.wait("end", len(sent))
    assert sorted(ledger.numbers("end")) == list(range(len(sent)))
    assert stored(client, "a\0b")["result"] == 0
    check_health(daemon, client)
    assert daemon.dead_letters() == []


def test_protocol_1(daemon, client):
    """A message of Celery's first protocol is run, and so is its callback."""
    body = {"task": "bench.tasks.add", "id": "one", "args": [1, 2], "kwargs": {}, "retries": 0, "eta": None}
    body |= {"expires": None, "utc": True, "callbacks": [dict(tasks.add.s(10).set(task_id="two"))], "errbacks": None}
    body |= {"timelimit": [None, None], "taskset": None, "chord": None}
    raw = json.loads(message("x"))
    raw |= {"headers": {}, "body": base64.b64encode(json.dumps(body).encode()).decode()}
    client.lpush("queue_4", json.dumps(raw))
    assert AsyncResult("one").get(timeout=PATIENCE) == 3
    assert AsyncResult("two").get(timeout=PATIENCE) == 13
    check_health(daemon, client)
    assert daemon.dead_letters() == []


def test_a_command_task_in_a_canvas(celery_app, fairstalk, client):
    """Only Celery itself can go on with a canvas, so a command in one is set aside and the reason says so."""
    daemon = fairstalk(**{"tasks.\"echo\"": {"command": ["/bin/cat"]}})
    celery_app.send_task("echo", queue="queue_1", link=tasks.add.s(1, 1))
    (letter,) = letters(daemon, 1)
    assert (letter["reason"], letter["task"]) == ("command-in-canvas", "echo")
    check_health(daemon, client)
