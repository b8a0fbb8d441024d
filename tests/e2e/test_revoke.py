"""Tasks taken back, and Celery's remote control: the same under a stock `celery worker` and under fairstalk."""
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
from celery import chord
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult
from harness import PROJECT
from harness.broker import message, of_fleet, stored, wait_settled
from harness.daemon import clean_environment
from harness.example_app import celery_command
from harness.waiting import eventually

from bench import tasks

PATIENCE = 30

#: An application that writes down whom `task_revoked` was sent for, and has a task that tidies up.
REVOKING = """
import os, time
from celery import signals
from bench.tasks import append_line
from imgbackend.celery import app

LEDGER = os.environ["LEDGER"]

@signals.task_revoked.connect
def note(sender, request, terminated, signum, expired, **_):
    append_line(LEDGER, event="revoked", task=request.id, name=sender.name, args=list(request.args or ()),
                terminated=terminated, signum=signum, expired=expired)

@app.task(name="tidy")
def tidy(n):
    append_line(LEDGER, event="start", n=n, user=None)
    try:
        time.sleep(120)
    finally:
        append_line(LEDGER, event="tidied", n=n, user=None)
"""


@pytest.fixture
def revoking(start_worker, app_env, tmp_path, ledger):
    """A worker of that application, with four slots."""
    (tmp_path / "revoking.py").write_text(REVOKING)
    app_env |= {"PYTHONPATH": str(tmp_path), "LEDGER": str(ledger)}
    return start_worker(app="revoking")


def control(app, command, count, **options):
    """Replies to a broadcast, by node; waits for so many."""
    found = app.control.broadcast(command, reply=True, timeout=20, limit=count, **options)
    assert len(found) == count, found
    return {name: value for answer in found for name, value in answer.items()}


@pytest.fixture
def count(request):
    """How many nodes there are."""
    return {"celery": 1, "fairstalk": 2}[request.node.callspec.params["start_worker"]]


def later(seconds=2):
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def check_revoked(result, why):
    """The caller learns of it as of any exception."""
    with pytest.raises(TaskRevokedError) as caught:
        result.get(timeout=PATIENCE)
    assert (caught.value.args, result.state) == ((why,), "REVOKED")


def test_a_revoked_task_does_not_run(revoking, celery_app, client, ledger, count):
    """Neither one that waits for its time nor one whose id nobody has seen; the result and the signal say so."""
    waits = tasks.record.apply_async((1, 1, str(ledger)), eta=later())
    waits.revoke()
    celery_app.control.revoke(["unseen-1", "unseen-2"])
    control(celery_app, "ping", count)  # broadcasts are handled in their order, so now those are
    for number in (1, 2):
        tasks.record.apply_async((1, 1 + number, str(ledger)), task_id=f"unseen-{number}")
    results = [waits, AsyncResult("unseen-1"), AsyncResult("unseen-2")]
    for result in results:
        check_revoked(result, "revoked")
    told = eventually(lambda: len(ledger.lines("revoked")) >= 3 and ledger.lines("revoked"), PATIENCE)
    assert sorted(line["task"] for line in told) == sorted(result.id for result in results)
    assert {(line["name"], line["terminated"], line["signum"], line["expired"]) for line in told} == {
        ("bench.tasks.record", False, None, False)
    }
    result = stored(client, "unseen-1")
    exception = {"exc_type": "TaskRevokedError", "exc_message": ["revoked"], "exc_module": "celery.exceptions"}
    assert (result["status"], result["result"], result["traceback"]) == ("REVOKED", exception, None)
    wait_settled(client)
    assert ledger.numbers("start") == []


def test_an_expired_task_is_revoked_too(revoking, client, ledger):
    """The signal tells one from the other."""
    late = tasks.record.apply_async((1, 1, str(ledger)), expires=later(-1))
    check_revoked(late, "expired")
    (line,) = eventually(lambda: ledger.lines("revoked"), PATIENCE)
    assert (line["task"], line["terminated"], line["signum"], line["expired"]) == (late.id, False, None, True)


def test_a_running_task_is_terminated(revoking, celery_app, client, ledger, count):
    """Only the one that is meant, by the signal that is meant; TERM lets it tidy up."""
    gentle, harsh, other = [celery_app.send_task("tidy", (n,)) for n in range(3)]
    ledger.wait("start", 3)
    gentle.revoke(terminate=True)
    check_revoked(gentle, "terminated")
    ledger.wait("tidied", 1)
    harsh.revoke(terminate=True, signal="SIGKILL")
    check_revoked(harsh, "terminated")
    told = eventually(lambda: len(ledger.lines("revoked")) >= 2 and ledger.lines("revoked"), PATIENCE)
    assert [(line["task"], line["terminated"], line["signum"], line["expired"]) for line in told] == [
        (gentle.id, True, 15, False),
        (harsh.id, True, 9, False),
    ]
    assert told[0]["args"] == [0]
    assert [tasks.add.delay(n, 1).get(timeout=PATIENCE) for n in range(6)] == list(range(1, 7))
    assert (ledger.numbers("tidied"), other.state) == ([0], "PENDING")
    more = [tasks.record.apply_async((1, n, str(ledger))) for n in range(100, 140)]
    assert [task.get(timeout=PATIENCE) for task in more] == list(range(100, 140))
    # Each ran once: no runner that was about to go got one.
    assert sorted(n for n in ledger.numbers("start") if n >= 100) == list(range(100, 140))
    answers = control(celery_app, "revoke", count, arguments={"task_id": "nobody", "terminate": True})
    assert list(answers.values()) == [{"ok": "terminate: tasks unknown"}] * count
    answers = control(celery_app, "terminate", count, arguments={"task_id": other.id, "signal": "KILL"})
    assert {"ok": f"terminate: {other.id}"} in answers.values()
    check_revoked(other, "terminated")


def test_a_chord_whose_member_is_revoked(worker, celery_app, ledger, count):
    """Its body is told, whether the member waits or runs."""
    for running in (False, True):
        member = tasks.record.si(1, int(running), str(ledger), 60.0).set(task_id=f"member-{running}")
        if not running:
            celery_app.control.revoke(f"member-{running}")
            control(celery_app, "ping", count)
        body = chord([member, tasks.add.si(1, 1)], tasks.total.s()).apply_async()
        if running:
            ledger.wait("start", 1)
            celery_app.control.revoke(f"member-{running}", terminate=True, signal="KILL")
        with pytest.raises(ChordError, match="TaskRevokedError"):
            AsyncResult(body.id).get(timeout=PATIENCE)
    assert ledger.numbers("start") == [1]


def test_ping(worker, celery_app, app_env, count):
    """Every worker answers once, who is not meant does not, and Celery's own command line is content."""
    everyone = control(celery_app, "ping", count)
    assert list(everyone.values()) == [{"ok": "pong"}] * count
    name = sorted(everyone)[0]
    assert control(celery_app, "ping", 1, destination=[name]) == {name: {"ok": "pong"}}
    assert control(celery_app, "ping", count, pattern=name[:3] + "*", matcher="glob") == everyone
    for nobody in ({"destination": ["nobody@nowhere"]}, {"pattern": "nob*", "matcher": "glob"}):
        assert celery_app.control.broadcast("ping", reply=True, timeout=0.5, **nobody) == []
    unknown = control(celery_app, "no_such_command", count)
    assert list(unknown.values()) == [{"error": "KeyError('no_such_command')"}] * count
    flagged = control(celery_app, "revoke", count, arguments={"task_id": ["x"]})
    assert list(flagged.values()) == [{"ok": "tasks {'x'} flagged as revoked"}] * count
    command = [*celery_command(), "inspect", "ping", "--timeout", "5"]
    done = subprocess.run(command, cwd=PROJECT, env=clean_environment(**app_env), capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("pong")) == (0, count), done.stdout + done.stderr


def replies(client):
    """Keys of reply queues."""
    return [key for key in client.keys("*") if key.endswith(b".reply.celery.pidbox")]


def test_control_survives_its_connection_and_nonsense(celery_app, fairstalk, client):
    """A lost connection is opened again; nobody is left with a reply that nobody wants."""
    daemon = fairstalk()
    control(celery_app, "ping", 2)
    client.client_kill_filter(_type="pubsub")
    eventually(lambda: client.pubsub_numsub("/0.celery.pidbox")[0][1] == 2, PATIENCE, daemon.log)
    for nonsense in (b"", b"\xff\0", b"{}", b"[" * 100_000, b'{"body": 7}', b'{"body": "*", "properties": {}}'):
        client.publish("/0.celery.pidbox", nonsense)
    control(celery_app, "ping", 2)
    eventually(lambda: replies(client) == [], PATIENCE, lambda: replies(client))


@pytest.mark.parametrize("key_prefix", ["", "pfx:"], ids=["plain", "key prefix"])
def test_revoked_while_nobody_was_there(celery_app, fairstalk, client, ledger, key_prefix):
    """Ids are in Redis: a worker that starts later knows them, whoever was killed meanwhile."""
    options = {"broker": {"key_prefix": key_prefix}}
    daemon = fairstalk(**options)
    daemon.popen.kill()
    eventually(lambda: not daemon.left(), PATIENCE)
    sent = [f"gone-{n}" for n in range(1500)]
    done = daemon.call("revoke", *sent[:2])
    assert (done.returncode, done.stdout) == (0, "revoked gone-0\nrevoked gone-1\n"), done.stderr
    done = daemon.call("revoke", *sent)
    assert done.returncode == 0
    assert client.zcard(f"{key_prefix}fairstalk:revoked") == len(sent)
    assert 0 < client.ttl(f"{key_prefix}fairstalk:revoked") <= 30 * 86_400
    queue = f"{key_prefix}queue_0"
    for n, task_id in enumerate([*sent[:40], "kept"]):
        client.lpush(queue, message("bench.tasks.record", (1, n, str(ledger)), headers={"id": task_id}))
    fairstalk(**options)
    # The last line of the last one may be there before the results of all.
    found = lambda: [stored(client, task_id) for task_id in [*sent[:40], "kept"]]
    results = eventually(lambda: all(found()) and found(), PATIENCE)
    assert [result["status"] for result in results] == ["REVOKED"] * 40 + ["SUCCESS"]
    assert ledger.numbers("start") == [40]


def test_revoked_between_two_claims(celery_app, fairstalk, client, ledger):
    """Known at the very next claim, though nothing but Redis was told."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1})
    for n in range(20):
        first = tasks.record.apply_async((1, 2 * n, str(ledger)))
        assert first.get(timeout=PATIENCE) == 2 * n
        gone = f"gone-{n}"
        client.eval(
            "local t = redis.call('TIME') local n = t[1] * 1000 + math.floor(t[2] / 1000)"
            "local l = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] or 0 n = math.max(n, l + 1)"
            "redis.call('ZADD', KEYS[1], n, ARGV[1]) redis.call('HSET', KEYS[2], 'revoked', n)",
            2, "fairstalk:revoked", of_fleet("tenants"), gone)
        tasks.record.apply_async((1, 2 * n + 1, str(ledger)), task_id=gone)
        check_revoked(AsyncResult(gone), "revoked")
    assert ledger.numbers("start") == [2 * n for n in range(20)]
    assert daemon.dead_letters() == []
    assert daemon.stop() == 0  # what is kept of revocations keeps no worker from leaving


def test_commands_are_revoked_and_terminated(celery_app, fairstalk, client, tmp_path):
    """A command task too: not started, ended by the signal, or killed if it does not listen to it."""
    script = "import signal, sys, time; {} open(sys.argv[1], 'w').close(); time.sleep(120)"
    command = lambda name, text: {"command": [sys.executable, "-c", text, str(tmp_path / name)]}
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    definitions = {"mild": command("mild", script.format("")), "deaf": command("deaf", script.format(deaf))}
    daemon = fairstalk(**{f'tasks."{name}"': {**keys, "max_retries": 0} for name, keys in definitions.items()})
    daemon.call("revoke", "never")
    check_revoked(celery_app.send_task("mild", task_id="never"), "revoked")
    assert not (tmp_path / "mild").exists()
    sent = {name: celery_app.send_task(name) for name in definitions}
    for name in definitions:
        eventually((tmp_path / name).exists, PATIENCE)
    done = daemon.call("revoke", "--terminate", *[task.id for task in sent.values()])
    assert "asked 2 workers to end with SIGTERM" in done.stdout, done.stderr
    for task in sent.values():
        check_revoked(task, "terminated")
    wait_settled(client)


def test_what_is_delivered_once_is_revoked_and_terminated_too(celery_app, fairstalk, client, ledger):
    """An end that was asked for is no loss: REVOKED, and no dead letter, though the runner died."""
    daemon = fairstalk(delivery={"mode": "at-most-once", "keep_failed": True})
    celery_app.control.revoke("never")
    control(celery_app, "ping", 2)
    check_revoked(tasks.record.apply_async((1, 1, str(ledger)), task_id="never"), "revoked")
    runs = tasks.record.apply_async((1, 2, str(ledger), 120.0))
    ledger.wait("start", 1)
    daemon.call("revoke", "--terminate", "--signal", "KILL", runs.id)
    check_revoked(runs, "terminated")
    wait_settled(client)
    assert (ledger.numbers("start"), daemon.dead_letters()) == ([2], [])


def test_wrong_command_lines(fairstalk):
    """What can't be meant is said."""
    daemon = fairstalk()
    for arguments in ([], [""], ["x", "--terminate", "--signal", "LOUD"], ["x", "--signal", "KILL"]):
        assert daemon.call("revoke", *arguments).returncode == 64, arguments
