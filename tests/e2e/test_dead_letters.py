"""A message that can't be run lies in the dead letters, whole and with its reason, and harms nothing else."""
import base64
import json

import pytest
from celery import group
from celery.exceptions import NotRegistered
from celery.result import AsyncResult
from harness.broker import message, of_fleet, stored, wait_settled
from harness.waiting import eventually

from bench import tasks

PATIENCE = 20
NOOP = "bench.tasks.noop"
GOOD = message(NOOP)
DEEP = "[" * 200 + "]" * 200


def with_header(**headers):
    """A message with one header that is not what it should be."""
    return message(NOOP, headers=headers)


def without(member):
    """A message that lacks one member of its envelope."""
    return json.dumps({key: value for key, value in json.loads(GOOD).items() if key != member}).encode()


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
    "no headers": without("headers"),
    "no properties": without("properties"),
    "no body": without("body"),
    "no id": message(NOOP, headers={"id": "?"}).replace(b'"id": "?"', b'"di": "?"'),
    "an array instead of members": json.dumps(list(json.loads(GOOD).values())).encode(),
    "truncated base64": GOOD.replace(b'"body": "', b'"body": "A'),
    "deep body": message(NOOP, body="[" * 100_000 + "]" * 100_000),
    "deep argument": message(NOOP, body="[[" + "[" * 100_000 + "]" * 100_000 + "], {}, {}]"),
    "deep and open": b'{"body": ' + b'{"a": [' * 50_000,
    "deep header": message(NOOP, headers={"x": "?"}).replace(b'"?"', b"[" * 100_000 + b"]" * 100_000),
    "deep property": message(NOOP, properties={"x": "?"}).replace(b'"?"', b"[" * 100_000 + b"]" * 100_000),
    "three arguments instead of a triple": message(NOOP, body="[1, 2, 3]"),
    "kwargs are a list": message(NOOP, body="[[], [1], {}]"),
    "args are a text": message(NOOP, body='["ab", {}, {}]'),
    "embed is a number": message(NOOP, body="[[], {}, 7]"),
    "expires is no time": with_header(expires="soon"),
    "expires is a number": with_header(expires=12),
    "eta in the year 10000": with_header(eta="10000-01-01T00:00:00+00:00"),
    "retries are negative": with_header(retries=-1),
    "retries beyond counting": with_header(retries=2**63),
    "timelimit is one number": with_header(timelimit=5),
    "timelimit of texts": with_header(timelimit=["1", "2"]),
    "expired, and the body is no triple": message(NOOP, body="7", headers={"expires": "2001-01-01T00:00:00+00:00"}),
    "protocol 1 without an id": message(NOOP, body=json.dumps({"task": NOOP})).replace(b'"task": "', b'"x": "'),
    "nested": GOOD.replace(b'"id":', b'"task": %s, "id":' % DEEP.encode()),
}


@pytest.fixture
def daemon(celery_app, fairstalk):
    """One worker with two slots, that takes messages of at most 512 KiB."""
    return fairstalk(workers={"processes": 1}, delivery={"max_message_size": "512KiB"})


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


def push_all(client, each):
    """Pushes each malformed message into a queue that names it; `each` may push something beside it."""
    for number, raw in enumerate(MALFORMED.values()):
        client.lpush(f"queue_{number}", raw)
        each(f"queue_{number}")


def check_all_malformed(daemon, client):
    """All of them are dead letters, byte for byte, and say what is wrong with them."""
    found = {letter["queue"]: letter for letter in letters(daemon, len(MALFORMED))}
    reasons = {name: found[f"queue_{number}"]["reason"] for number, name in enumerate(MALFORMED)}
    assert reasons == dict.fromkeys(MALFORMED, "malformed")
    assert all(letter["detail"] for letter in found.values())
    assert set(client.hvals("fairstalk:dead:messages")) == set(MALFORMED.values())
    assert len(daemon.call("dead", "list").stdout.splitlines()) == 2 * len(MALFORMED)


QUEUES = [f"queue_{number}" for number in range(len(MALFORMED))]


@pytest.fixture
def many_queues(celery_app, fairstalk):
    """`many_queues(section={…})`: as `daemon`, with a queue for each malformed message."""
    options = {"delivery": {"max_message_size": "512KiB"}, "queues": {"names": QUEUES}}
    return lambda **more: fairstalk(**{"workers": {"processes": 1}, **options, **more})


def test_malformed_messages(many_queues, client):
    """Whatever was pushed, byte for byte."""
    daemon = many_queues()
    push_all(client, lambda queue: None)
    check_all_malformed(daemon, client)
    check_health(daemon, client)


def test_malformed_messages_are_filed_and_stall_nobody(many_queues, client, ledger):
    """While no slot is free, messages are looked at before they are claimed: one that can't be read is filed under its
    queue, and what was pushed after it into the same queue runs.
    """
    daemon = many_queues(workers={"processes": 1, "concurrency": 1}, tenancy={"parameter": "user_id"})
    record = "bench.tasks.record"
    client.lpush("queue_0", message(record, (0, -1, str(ledger), 600.0), headers={"id": "blocker"}))
    ledger.wait("start", 1)
    numbers = iter(range(len(MALFORMED)))
    push_all(client, lambda queue: client.lpush(queue, message(record, (1, next(numbers), str(ledger)), queue=queue)))
    filed = {f"q:queue_{number}".encode() for number in range(len(MALFORMED))}
    tenants = of_fleet("tenants", QUEUES)
    eventually(lambda: filed <= set(client.hkeys(tenants)), PATIENCE, daemon.log)
    eventually(lambda: not any(client.exists(queue) for queue in QUEUES), PATIENCE)
    assert (daemon.dead_letters(), ledger.numbers("start")) == ([], [-1])
    daemon.call("revoke", "--terminate", "blocker")
    check_all_malformed(daemon, client)
    ledger.wait("end", len(MALFORMED))
    assert sorted(ledger.numbers("end")) == list(range(len(MALFORMED)))
    check_health(daemon, client)


def test_refused_messages(daemon, client):
    """Content types nobody wants, and what is too large, are not even read."""
    tasks.add.apply_async((1, 2), serializer="pickle", queue="queue_1")
    client.lpush("queue_2", message(NOOP, **{"content-type": "application/x-nobody-knows"}))
    tasks.noop.apply_async(("x" * 524_288,), queue="queue_3")
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
    assert letter["memory_peak"] > 5 << 20, "a Python process with an application in it"
    assert letter["runner_pid"] and letter["started"] <= letter["at"]
    letter = found[failed.id]
    assert (letter["reason"], letter["tenant"], letter["queue"]) == ("failed", "7", "queue_7")
    assert letter["exception"] == "ValueError('no luck')"
    assert letter["traceback"].startswith("Traceback") and "fail_loudly" in letter["traceback"]
    assert letter["output"] == ["about to fail: no luck"]
    assert found[rejected.id]["reason"] == "rejected" and "refused by the task" in found[rejected.id]["detail"]
    words = daemon.call("dead", "show", died.id).stdout
    assert "SIGKILL" in words and "    line 29\n" in words and f"{found[died.id]['memory_peak']} bytes" in words
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


@pytest.mark.parametrize("headers", [
    {"timelimit": [1e19, 1e300]}, {"timelimit": [-1, -1]}, {"timelimit": [0, 0]}, {"timelimit": None},
    {"expires": "9999-12-31T23:59:59.999999+00:00"}, {"eta": "0001-01-01T00:00:00"}, {"eta": "1969-12-31T23:59:59-12:00"},
    {"retries": 2**32 - 1}, {"retries": None}, {"id": "\0" * 10}, {"id": "x" * 10_000}, {"id": "a\n\x1fq:{}*"},
    {"compression": None, "root_id": None, "group": "g\0"},
], ids=repr)  # fmt: skip
def test_absurd_but_harmless_headers(daemon, client, ledger, headers):
    """These are run like any other."""
    client.lpush("queue_3", message("bench.tasks.record", (1, 1, str(ledger)), headers=headers))
    ledger.wait("end", 1)
    check_health(daemon, client)
    assert (ledger.numbers("start"), daemon.dead_letters()) == ([1], [])


def test_no_end_and_no_beginning_of_time(daemon, client, ledger):
    """What is due in 8,000 years waits without a slot; what expired with the year 1 is not run."""
    args = (1, 1, str(ledger))
    client.lpush("queue_3", message("bench.tasks.record", args, headers={"id": "far", "eta": "9999-12-31T23:59:59Z"}))
    client.lpush("queue_3", message("bench.tasks.record", args, headers={"id": "old", "expires": "0001-01-01T00:00:00"}))
    eventually(lambda: (stored(client, "old") or {}).get("status") == "REVOKED", PATIENCE)
    eventually(lambda: client.zcard("fairstalk:delayed") == 1, PATIENCE)
    check_health(daemon, client)
    assert (ledger.lines(), daemon.dead_letters()) == ([], [])


WRONG = [None, True, 7, -1.5, 2**64, "", "text", [], [None], {}, {"a": {}}]
FIELDS = [
    *[("headers", key) for key in json.loads(GOOD)["headers"]],
    *[("headers", key) for key in ("eta", "expires", "timelimit", "group", "parent_id", "ignore_result", "compression")],
    *[("headers", key) for key in ("stamps", "stamped_headers", "replaced_task_nesting", "argsrepr", "shadow")],
    *[("properties", key) for key in json.loads(GOOD)["properties"]],
    *[("properties", "reply_to"), ("delivery_info", "routing_key"), ("delivery_info", "deliveries")],
    *[(None, key) for key in json.loads(GOOD)],
]


def test_every_type_in_every_field(daemon, client):
    """Each message is run, or lies in the dead letters with a reason: none is lost, and no runner dies of one."""
    for number, (part, key) in enumerate(FIELDS):
        for value in WRONG:
            whole = json.loads(message("bench.tasks.noop"))
            place = {None: whole, "delivery_info": whole["properties"]["delivery_info"]}.get(part) or whole[part]
            place[key] = value
            client.lpush(f"queue_{number % 20}", json.dumps(whole))
    lists = [f"queue_{number}{step}" for number in range(20) for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")]
    eventually(lambda: not any(client.exists(name) for name in lists), PATIENCE)
    check_health(daemon, client)
    found = daemon.ask("dead", "list", "--limit", "1000")
    assert all(letter["entry"]["detail"] for letter in found)
    reasons = {letter["entry"]["reason"] for letter in found}
    assert reasons <= {"malformed", "refused-content-type", "unknown-task", "runner-lost"}
    print(len(FIELDS) * len(WRONG), "messages,", len(found), "dead letters", reasons)


def test_messages_of_50_megabytes_and_more(celery_app, fairstalk, client):
    """What is allowed by default is run, what is larger is not even read; neither holds up the next."""
    daemon = fairstalk(workers={"processes": 1})
    large = tasks.noop_result.apply_async(("x" * 49_000_000,), queue="queue_3", ignore_result=True)
    tasks.noop.apply_async(("x" * 51_000_000,), queue="queue_3")
    (letter,) = letters(daemon, 1)
    assert (letter["reason"], letter["queue"]) == ("too-large", "queue_3")
    check_health(daemon, client)
    assert not client.exists("queue_3")
    assert large.id not in {letter["id"] for letter in daemon.dead_letters()}


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
