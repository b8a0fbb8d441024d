"""Celery's events: the same under a stock `celery worker` and under fairstalk, as Celery's own receiver hears them."""
import base64
import itertools
import json
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from harness import PROJECT
from harness.broker import stored
from harness.daemon import binary, clean_environment
from harness.example_app import celery_command
from harness.monitor import Monitor
from harness.processes import ProcessUnderTest
from harness.proxy import Proxy
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

PATIENCE = 60

#: An application with tasks of its own; whether it sends events is in its environment.
EVENTFUL = """
import os, time
from django.conf import settings
from bench.tasks import made
from imgbackend.celery import app

app.conf.worker_send_task_events = os.environ["SEND"] == "yes"
if "ZONE" in os.environ:
    assert settings.TIME_ZONE == "UTC"  # they are read now, and TZ is set by them
    os.environ["TZ"] = os.environ["ZONE"]  # as Django does
    time.tzset()

@app.task(name="silent", send_events=False)
def silent():
    return "silence"

@app.task(name="limited", time_limit=1)
def limited():
    time.sleep(60)

@app.task(name="held")
def held(started, end):
    made(started)
    while not os.path.exists(end):
        time.sleep(0.01)
    return 7
"""

COMMON = {"hostname", "utcoffset", "pid", "clock", "timestamp", "type", "local_received"}
ALIVE = COMMON | {"freq", "sw_ident", "sw_ver", "sw_sys"}
#: All fields of each type, as Celery 5.7 sends them.
FIELDS = {
    "worker-online": ALIVE | {"active", "processed", "loadavg"},
    "worker-heartbeat": ALIVE | {"active", "processed", "loadavg"},
    "worker-offline": ALIVE | {"active", "processed", "loadavg"},
    "task-received": COMMON
    | {"uuid", "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta", "expires"},
    "task-started": COMMON | {"uuid"},
    "task-succeeded": COMMON | {"uuid", "result", "runtime"},
    "task-failed": COMMON | {"uuid", "exception", "traceback"},
    "task-retried": COMMON | {"uuid", "exception", "traceback"},
    "task-rejected": COMMON | {"uuid", "requeue"},
    "task-revoked": COMMON | {"uuid", "terminated", "signum", "expired"},
}


@pytest.fixture
def count(request):
    """How many nodes there are."""
    return {"celery": 1, "fairstalk": 2}[request.node.callspec.params["start_worker"]]


@pytest.fixture
def eventful(start_worker, celery_app, app_env, tmp_path):
    """`eventful(send)`: a worker of that application, with four slots."""

    def start(send):
        (tmp_path / "eventful.py").write_text(EVENTFUL)
        app_env.update(PYTHONPATH=str(tmp_path), SEND="yes" if send else "no")
        worker = start_worker(app="eventful")
        eventually(lambda: celery_app.control.ping(timeout=1), PATIENCE)  # Celery says it is ready before it listens
        return worker

    return start


@pytest.fixture
def monitor(celery_app, client):
    """A monitor that hears from the start."""
    with Monitor(celery_app, client) as monitor:
        yield monitor


def once(words):
    """Without repetitions: Celery tells the end by a time limit twice; fairstalk, that a delayed task was received."""
    return [word for word, _ in itertools.groupby(words)]


def control(app, command, count, **arguments):
    """Distinct answers to a broadcast, of so many nodes."""
    found = app.control.broadcast(command, reply=True, timeout=20, limit=count, arguments=arguments)
    assert len(found) == count, found
    return {json.dumps(value) for answer in found for value in answer.values()}


def check_clocks(monitor):
    """A node's clock has no value twice, and its task events arrive in its order."""
    for name in {event["hostname"] for event in monitor.events}:
        own = [event for event in monitor.events if event["hostname"] == name]
        clocks = [event["clock"] for event in own]
        assert len(set(clocks)) == len(clocks)
        of_tasks = [event["clock"] for event in own if "uuid" in event]
        assert of_tasks == sorted(of_tasks)


def test_all_that_happens_to_tasks(eventful, monitor, celery_app, client, tmp_path, count):
    """Every type of event, with Celery's fields and in its order; and Celery's own picture of it."""
    worker = eventful(send=True)
    control(celery_app, "revoke", count, task_id=["revoked"])
    late = datetime.now(timezone.utc) - timedelta(seconds=1)
    send = celery_app.send_task
    path = lambda name: str(tmp_path / name)
    stories = {
        tasks.add.apply_async((2, 3), root_id="root", parent_id="parent").id: "received started succeeded",
        tasks.fail.delay("no such product").id: "received started failed",
        tasks.reject.delay().id: "received started failed rejected",
        tasks.ignore.delay().id: "received started",
        tasks.add.apply_async((1, 1), task_id="revoked").id: "revoked",
        tasks.add.apply_async((1, 1), expires=late).id: "revoked",
        send("limited").id: "received started failed",
        send("no.such.task").id: "failed",
        send("silent").id: "",
    }
    flaky = tasks.flaky.delay(1, countdown=0.1)  # the next try of these may begin before they are told of
    refused = tasks.reject.delay(True, path("refused"))
    ended = send("held", (path("began"), path("never")))
    eventually((tmp_path / "began").exists, PATIENCE)
    ended.revoke(terminate=True)
    stories[ended.id] = "received started revoked"
    soon = tasks.add.apply_async((4, 4), countdown=0.2, shadow="shadow")
    stories[soon.id] = "received started succeeded"

    told = lambda: {task_id: " ".join(once(monitor.story(task_id))) for task_id in stories}
    eventually(lambda: told() == stories, PATIENCE, lambda: f"{told()}\nnot\n{stories}")
    monitor.wait(lambda monitor: "succeeded" in monitor.story(flaky.id))
    assert sorted(set(monitor.story(flaky.id))) == ["received", "retried", "started", "succeeded"]
    assert monitor.story(flaky.id).count("started") == 2
    monitor.wait(lambda monitor: "succeeded" in monitor.story(refused.id))
    assert sorted(monitor.story(refused.id)) == ["received"] * 2 + ["rejected"] + ["started"] * 2 + ["succeeded"]
    ids = dict(zip(["add", "fail", "reject", "ignore", "revoked", "late", "limited", "unknown"], stories))
    silent = [task_id for task_id, story in stories.items() if not story]
    eventually(lambda: stored(client, silent[0]), PATIENCE)  # it has run

    # Fields.
    for event in monitor.events:
        wanted = FIELDS[event["type"]]
        if event["type"] == "worker-heartbeat" and event["freq"] == 5:  # the answer to a command tells less
            wanted = ALIVE
        if event.get("uuid") == ids["unknown"]:
            wanted = wanted - {"traceback"}
        assert set(event) == wanted, event

    # Values.
    received, started, succeeded = monitor.of_task(ids["add"])
    assert (received["name"], received["args"], received["kwargs"]) == ("bench.tasks.add", "(2, 3)", "{}")
    assert (received["root_id"], received["parent_id"], received["retries"]) == ("root", "parent", 0)
    assert (received["eta"], received["expires"]) == (None, None)
    assert received["timestamp"] <= started["timestamp"] <= succeeded["timestamp"]
    assert succeeded["result"] == "5" and 0 <= succeeded["runtime"] < PATIENCE
    (failed,) = monitor.of("task-failed", uuid=ids["fail"])
    assert failed["exception"] == "ValueError('no such product')"
    assert failed["traceback"].startswith("Traceback (most recent call last):")
    assert failed["traceback"].rstrip().endswith("ValueError: no such product")
    (retried,) = monitor.of("task-retried", uuid=flaky.id)
    assert retried["exception"] == "None" and "Retry" in retried["traceback"]
    assert {event["retries"] for event in monitor.of("task-received", uuid=flaky.id)} == {0, 1}
    again = monitor.of("task-received", uuid=soon.id)[0]
    assert again["name"] == "shadow" and datetime.fromisoformat(again["eta"]).tzinfo is not None
    assert [event["requeue"] for event in monitor.of("task-rejected", uuid=ids["reject"])] == [False]
    assert [event["requeue"] for event in monitor.of("task-rejected", uuid=refused.id)] == [True]
    # Celery 5.7 shows the wrapper of the exception here.
    shown = "ExceptionWithTraceback()" if count == 1 else "TimeLimitExceeded(1)"
    assert monitor.of("task-failed", uuid=ids["limited"])[0]["exception"] == shown
    assert monitor.of("task-failed", uuid=ids["unknown"])[0]["exception"] == "NotRegistered('no.such.task')"
    whys = lambda task_id: [(e["terminated"], e["signum"], e["expired"]) for e in monitor.of("task-revoked", uuid=task_id)]
    assert whys("revoked") == [(False, None, False)]
    assert whys(ids["late"]) == [(False, None, True)]
    assert whys(ended.id) == [(True, 15, False)]

    # Order, and the picture.
    check_clocks(monitor)
    states = {"add": "SUCCESS", "fail": "FAILURE", "reject": "FAILURE", "ignore": "STARTED"}
    states |= {"revoked": "REVOKED", "late": "REVOKED", "limited": "FAILURE"}
    assert {name: monitor.state.tasks[ids[name]].state for name in states} == states
    nodes = {event["hostname"] for event in monitor.events}
    assert set(monitor.state.workers) == nodes and len(nodes) == count
    assert all(node.alive for node in monitor.state.workers.values())

    # And the end.
    every = {1: 2.0, 2: 2.5}[count]  # seconds: Celery's, fairstalk's
    monitor.wait(lambda monitor: len(monitor.of("worker-heartbeat", freq=every)) >= 2 * count)
    worker.stop()
    monitor.wait(lambda monitor: len(monitor.of("worker-offline")) == count)
    assert not any(node.alive for node in monitor.state.workers.values())
    last = monitor.of("worker-offline")[0]
    assert set(last) == FIELDS["worker-offline"] and last["freq"] == every
    processed = sum(event["processed"] for event in monitor.of("worker-offline"))
    assert processed >= 12


def test_events_of_tasks_are_asked_for(eventful, monitor, celery_app, count):
    """Without a setting there are none until a monitor wants them, and none when it doesn't any more."""
    eventful(send=False)
    monitor.wait(lambda monitor: len(monitor.of("worker-online")) == count)
    assert control(celery_app, "disable_events", count) == {'{"ok": "task events already disabled"}'}
    first = tasks.add.delay(1, 2)
    assert first.get(timeout=PATIENCE) == 3
    assert control(celery_app, "enable_events", count) == {'{"ok": "task events enabled"}'}
    assert control(celery_app, "enable_events", count) == {'{"ok": "task events already enabled"}'}
    wanted = tasks.add.delay(1, 2)
    monitor.wait(lambda monitor: monitor.story(wanted.id) == ["received", "started", "succeeded"])
    assert control(celery_app, "disable_events", count) == {'{"ok": "task events disabled"}'}
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    beats = len(monitor.of("worker-heartbeat", freq=5))
    celery_app.control.broadcast("heartbeat")
    monitor.wait(lambda monitor: len(monitor.of("worker-heartbeat", freq=5)) >= beats + count)
    # Celery's worker may hear of the end of the first one when events are wanted already.
    assert monitor.story(first.id) in ([], ["succeeded"])
    assert {event["uuid"] for event in monitor.events if "uuid" in event} - {first.id} == {wanted.id}


def test_what_is_configured_no_command_takes_back(eventful, monitor, celery_app, count):
    """As in Celery: what `-E` or the application asks for stays."""
    eventful(send=True)
    assert control(celery_app, "enable_events", count) == {'{"ok": "task events already enabled"}'}
    assert control(celery_app, "disable_events", count) == {'{"ok": "task events already disabled"}'}
    sent = tasks.add.delay(1, 2)
    monitor.wait(lambda monitor: monitor.story(sent.id) == ["received", "started", "succeeded"])


def test_celerys_own_program_shows_them(eventful, client, app_env, tmp_path, celery_app):
    """`celery events --dump`."""
    eventful(send=True)
    before = client.pubsub_numpat()
    command = [*celery_command("eventful"), "events", "--dump"]
    dump = ProcessUnderTest(command, tmp_path / "dump.log", clean_environment(**app_env, PYTHONUNBUFFERED="1"), PROJECT)
    try:
        eventually(lambda: client.pubsub_numpat() > before, PATIENCE, dump.log)
        sent = tasks.add.delay(20, 3)
        dump.wait_log(r"(?m)^\S+@\S+ \[.+\] task succeeded: bench.tasks.add\(" + sent.id + r"\) args=\(20, 3\) kwargs={} "
                      r".*result=23", timeout=PATIENCE)
        dump.wait_log(r"(?m)^\S+@\S+ \[.+\] heartbeat: ", timeout=PATIENCE)
    finally:
        dump.clear_away()


def test_channels_and_envelopes(eventful, client, app_env):
    """Byte by byte what kombu sends: channels, batches, properties; the offset from UTC is the application's."""
    app_env["ZONE"] = "Asia/Kolkata"
    with client.pubsub() as pubsub:
        pubsub.psubscribe("*celeryev*")
        eventful(send=True)
        tasks.add.delay(1, 2).get(timeout=PATIENCE)
        found = {}
        wanted = {f"/0.celeryev/{name}" for name in ("worker.online", "worker.heartbeat", "task.multi")}

        def all_heard():
            message = pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                found.setdefault(message["channel"].decode(), json.loads(message["data"]))
            return set(found) == wanted

        eventually(all_heard, PATIENCE, lambda: str(found))
    for channel, envelope in found.items():
        routing_key = channel.rpartition("/")[2]
        properties = envelope["properties"]
        assert set(envelope) == {"body", "content-encoding", "content-type", "headers", "properties"}
        assert (envelope["content-encoding"], envelope["content-type"]) == ("utf-8", "application/json")
        body = json.loads(base64.b64decode(envelope["body"]))
        assert isinstance(body, list) == (routing_key == "task.multi")
        first = body[0] if isinstance(body, list) else body
        assert list(first)[:4] == ["hostname", "utcoffset", "pid", "clock"] and list(first)[-2:] == ["timestamp", "type"]
        assert envelope["headers"] == {"hostname": first["hostname"]}
        assert first["utcoffset"] == -5.5
        assert len(properties.pop("delivery_tag")) == 36
        assert properties == {
            "delivery_mode": 1,
            "delivery_info": {"exchange": "celeryev", "routing_key": routing_key},
            "priority": 0,
            "body_encoding": "base64",
        }


def test_a_result_is_there_when_its_event_comes(eventful, monitor, client, celery_app):
    """Whoever hears that a task has ended can fetch its result."""
    missing = []

    def look(event):
        if event["type"] in ("task-succeeded", "task-failed") and stored(client, event["uuid"]) is None:
            missing.append(event)

    eventful(send=True)
    monitor.on_event = look
    sent = [task.delay(*args).id for n in range(100) for task, args in ((tasks.add, (n, 1)), (tasks.fail, ("x",)))]
    monitor.wait(lambda monitor: len(monitor.of("task-succeeded", "task-failed")) >= len(sent), PATIENCE)
    assert missing == []


def test_a_result_is_there_although_it_was_hard_to_store(fairstalk, monitor, client):
    """The same while the connections that store results are cut again and again, and those for events are not."""
    missing = []

    def look(event):
        if event["type"] == "task-succeeded" and stored(client, event["uuid"]) is None:
            missing.append(event)

    fairstalk(workers={"events": True})
    monitor.on_event = look
    sent = [tasks.sleep.delay(0.03).id for _ in range(60)]
    cuts = 0
    for wanted in range(1, len(sent) + 1):
        monitor.wait(lambda monitor: len({event["uuid"] for event in monitor.of("task-succeeded")}) >= wanted)
        for connection in client.client_list():
            if "B" in connection["flags"]:  # told of changes of queues: no other connection is
                cuts += client.client_kill_filter(_id=connection["id"])
    assert missing == [] and cuts > 10


@pytest.mark.parametrize("send", [True, False])
def test_the_configuration_decides(fairstalk, monitor, celery_app, client, send):
    """`[workers] events` counts, whatever the application says; and a key prefix stands before the channel."""
    fairstalk(workers={"events": send, "processes": 1}, broker={"key_prefix": "pfx:"})
    with Monitor(celery_app, client, {"global_keyprefix": "pfx:"}) as prefixed:
        prefixed.wait(lambda monitor: monitor.of("worker-heartbeat", freq=2.5))
        options = {"transport_options": {"global_keyprefix": "pfx:"}}
        with celery_app.connection_for_write(**options) as connection:
            sent = [tasks.add.apply_async((1, n), connection=connection) for n in range(3)]
        done = lambda monitor: monitor.of("worker-heartbeat", processed=3)
        prefixed.wait(done)
        expected = ["received", "started", "succeeded"] if send else []
        assert [prefixed.story(task.id) for task in sent] == [expected] * 3
    assert monitor.events == []


def test_commands_are_told_of_too(fairstalk, monitor, celery_app):
    """A command task has the same events. One worker, because what two tell of one task may arrive in any order."""
    command = lambda text, **more: {"command": ["sh", "-c", text], **more}
    fairstalk(
        workers={"events": True, "processes": 1},
        **{
            'tasks."good"': command("cat >/dev/null; echo '[1, null, \"x\"]'"),
            'tasks."bad"': command("echo no >&2; exit 3", max_retries=1, retry_backoff="10ms"),
        },
    )
    good, bad = celery_app.send_task("good", (1,)), celery_app.send_task("bad")
    story = "received started retried received started failed"
    monitor.wait(lambda monitor: " ".join(once(monitor.story(bad.id))) == story and "succeeded" in monitor.story(good.id))
    received, _, succeeded = monitor.of_task(good.id)
    assert (received["args"], succeeded["result"]) == ("(1,)", "[1, None, 'x']")
    (failed,) = monitor.of("task-failed")
    assert failed["exception"].startswith("CalledProcessError(") and "no" in failed["traceback"]
    assert set(failed) == FIELDS["task-failed"]


def test_an_outage_loses_none(redis, fairstalk, monitor):
    """What ends while the daemon's connections are gone is told of later, and in order."""
    proxy = Proxy(redis.port)
    fairstalk(broker={"url": proxy.url}, workers={"events": True})
    ids = []
    for n in range(60):
        ids.append(enqueue_task_to_user_queue(tasks.sleep, n % 5, 0.05, user_id=n % 5).id)
        if n % 10 == 9:
            monitor.wait(lambda monitor: len(monitor.of("task-started")) >= n - 5)
            proxy.cut()
    monitor.wait(lambda monitor: all("succeeded" in monitor.story(task_id) for task_id in ids), PATIENCE)
    # What may not have arrived is sent twice; a claim whose answer was cut off is made again.
    assert all(set(monitor.story(task_id)) >= {"received", "started", "succeeded"} for task_id in ids)
    proxy.close()


def test_without_the_permission_there_are_none(redis, fairstalk, monitor, client):
    """Tasks run, and the log says it once."""
    client.execute_command("ACL", "SETUSER", "quiet", "on", ">pw", "~*", "resetchannels", "+@all")
    client.execute_command("ACL", "SETUSER", "quiet", "&/0.celery.pidbox", "&celery-task-meta-*")
    url = f"redis://quiet:pw@127.0.0.1:{redis.port}/0"
    daemon = fairstalk(broker={"url": url}, workers={"events": True, "processes": 1})
    for n in range(5):
        assert tasks.add.delay(n, 1).get(timeout=PATIENCE) == n + 1
    eventually(lambda: "events (Flower, celery events) are not sent" in daemon.log(), PATIENCE, daemon.log)
    client.execute_command("ACL", "SETUSER", "quiet", "allchannels")
    late = []

    def told():
        late.append(tasks.add.delay(1, 1))
        return any(monitor.story(task.id) == ["received", "started", "succeeded"] for task in late)

    eventually(told, PATIENCE, daemon.log)
    assert daemon.log().count("are not sent") == 1


def test_who_speaks_for_a_name_during_a_reload(fairstalk, monitor, celery_app):
    """One answer and one sign of life for each name at any time, and no word of an end; the old worker's task is told of."""
    daemon = fairstalk(workers={"events": True, "processes": 2, "concurrency": 1})
    monitor.wait(lambda monitor: len(monitor.of("worker-online")) == 2)
    names = {event["hostname"]: event["pid"] for event in monitor.of("worker-online")}
    runs = [tasks.sleep.delay(8) for _ in range(2)]
    monitor.wait(lambda monitor: len(monitor.of("task-started")) == 2)
    control(celery_app, "ping", 2)
    reload = subprocess.Popen([binary(), "reload", "--pid", str(daemon.pid)], stdout=subprocess.PIPE)
    alone = twice = 0
    while reload.poll() is None:
        two_of_a_name = len(daemon.pids("worker")) > 2
        answers = celery_app.control.broadcast("ping", reply=True, timeout=1)
        speakers = sorted(name for answer in answers for name in answer)
        assert set(speakers) == set(names), daemon.log()
        alone += two_of_a_name and speakers == sorted(names)
        twice += len(speakers) > len(names)
    # The one that is ready speaks, and the other one is told at once: a question may come just between.
    assert reload.returncode == 0 and alone > 2 and twice <= 2
    assert monitor.of("worker-offline") == []
    online = monitor.of("worker-online")
    assert [len([event for event in online if event["hostname"] == name]) for name in names] == [2, 2]
    for name, old in names.items():
        new = [event for event in online if event["hostname"] == name][1]
        assert new["pid"] != old
        monitor.wait(lambda monitor: monitor.of("worker-heartbeat", hostname=name, pid=new["pid"]))
        beats = [event["pid"] for event in monitor.of("worker-heartbeat", hostname=name)]
        beats = beats[beats.index(new["pid"]) :]
        assert set(beats) == {new["pid"]}
        assert monitor.state.workers[name].pid == new["pid"]
    ended = {event["uuid"]: event["pid"] for event in monitor.of("task-succeeded")}
    assert {ended[task.id] for task in runs} == set(names.values())
    assert daemon.stop() == 0
    monitor.wait(lambda monitor: sorted(event["hostname"] for event in monitor.of("worker-offline")) == sorted(names))
