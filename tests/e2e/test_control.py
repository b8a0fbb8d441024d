"""Celery's remote control: what a stock worker and fairstalk answer to the same commands has the same form."""
import os
import signal
import subprocess

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from harness import PROJECT, example_app
from harness.daemon import Fairstalk, base_config, clean_environment, merged
from harness.example_app import celery_command
from harness.processes import ProcessUnderTest
from harness.redis_server import RedisServer
from harness.waiting import eventually

from bench import tasks

PATIENCE = 60

#: An application with commands of its own, with tasks that last, and with tasks that stamp others.
APPLICATION = """
import os, time
from celery.worker.control import control_command, inspect_command
from imgbackend.celery import app

app.conf.task_default_queue = "queue_0"

@app.task(name="nap")
def nap(seconds, **_):
    time.sleep(seconds)

@app.task(name="limited", rate_limit="100/s", time_limit=100)
def limited():
    pass

@inspect_command(args=[("greeting", str)])
def greet(state, greeting="hello"):
    return {"greeting": greeting, "node": state.hostname, "nap": "nap" in state.app.tasks, "pid": os.getpid()}

@control_command()
def broken(state):
    raise LookupError("nothing there")

@control_command()
def hangs(state):
    time.sleep(600)
"""

NAP = "11111111-1111-1111-1111-111111111111"
LATER = "22222222-2222-2222-2222-222222222222"

#: Commands in the order in which they are given, with their arguments.
COMMANDS = {
    "ping": {},
    "clock": {},
    "active": {},
    "dump_active": {},
    "active safe": {"safe": True},
    "reserved": {},
    "dump_reserved": {},
    "scheduled": {},
    "dump_schedule": {},
    "query_task": {"ids": [NAP, LATER, "unknown"]},
    "revoke": {"task_id": ["gone"]},
    "revoked": {},
    "dump_revoked": {},
    "registered": {},
    "dump_tasks": {},
    "registered items": {"taskinfoitems": ["time_limit", "__class__"], "builtins": True},
    "active_queues": {},
    "stats": {},
    "conf": {},
    "dump_conf": {"with_defaults": True},
    "report": {},
    "hello": {"from_node": "other@host", "revoked": ["of another"]},
    "hello old": {"from_node": "other@host", "revoked": {"of an older": 17.0}},
    "time_limit": {"task_name": "nap", "soft": 50, "hard": 60.5},
    "time_limit unknown": {"task_name": "no.such", "soft": 1, "hard": 2},
    "pool_grow": {"n": 1},
    "pool_shrink": {"n": 1},
    "autoscale": {"max": 3, "min": 1},
    "pool_restart": {"modules": ["bench.tasks"], "reload": True},
    "memsample": {},
    "memdump": {"samples": 3},
    "objgraph": {},
    "add_consumer": {"queue": "queue_3"},
    "cancel_consumer": {"queue": "never_consumed"},
    "revoke_by_stamped_headers": {"headers": {"who": ["a", "b"]}},
    "revoke_by_stamped_headers list": {"headers": ["who=a"], "terminate": True, "signal": "KILL"},
    "terminate": {"task_id": ["unknown"], "signal": "TERM"},
    "greet": {"greeting": "salve"},
    "broken": {},
    "no_such_command": {"with": "arguments"},
}



def said_otherwise(stock, ours):
    assert shape(ours) == shape(stock) and ours != stock


def with_settings(stock, ours):
    """A stock worker changes two settings, and ours one; infinity is a text; all others are of the same form."""
    own = {"include", "worker_disable_prefetch", "task_publish_retry_policy", "result_backend_max_retries"}
    assert {key: shape(value) for key, value in ours.items() if key not in own} == {
        key: shape(value) for key, value in stock.items() if key not in own}


def with_broker(stock, ours):
    """The transport's options are ours."""
    for found in (stock, ours):
        assert isinstance(found["broker"].pop("transport_options"), dict)
    assert shape(ours) == shape(stock)


def with_memory(stock, ours):
    """A stock worker needs psutil to tell."""
    assert stock is None and ours.endswith("MB")


#: Where the two are not of one form, what is asserted then, and why.
DIFFERENT = {
    "conf": (with_settings, "settings that a worker sets itself"),
    "dump_conf": (with_settings, "the same"),
    "stats": (with_broker, "options of the broker"),
    "memsample": (with_memory, "psutil is missing"),
    "pool_restart": (said_otherwise, "another reason"),
}


def shape(value):
    """Keys and types; what is in a list is like its first item, and a whole number is a number."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shape(item) for item in value[:1]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return type(value).__name__
    return "number"


def options_of(app_env, directory):
    (directory / "controlled.py").write_text(APPLICATION)
    return app_env | {"PYTHONPATH": str(directory)}


def start_stock(directory, app_env, *options):
    command = [*celery_command("controlled"), "worker", "--loglevel", "INFO", *options]
    worker = ProcessUnderTest(command, directory / "celery.log", clean_environment(**app_env), PROJECT)
    worker.wait_log(r"\S+@\S+ ready\.$", timeout=PATIENCE)
    return worker


def ask(app, method, arguments=None, count=1, **options):
    """Replies by node."""
    found = app.control.broadcast(method, arguments=arguments or {}, reply=True, timeout=20, limit=count, **options)
    assert len(found) == count, found
    return {name: value for answer in found for name, value in answer.items()}


def answers_of(kind, directory):
    """One kind of worker's answers to all commands; it runs one task and holds a delayed one."""
    (directory / "data").mkdir()
    with RedisServer() as redis:
        app_env = options_of(example_app.environment(redis, directory / "data"), directory)
        app = example_app.load()
        example_app.connect(app, app_env)
        if kind == "celery":
            queues = ",".join(f"queue_{number}" for number in range(20))
            worker = start_stock(directory, app_env, "-c", "2", "-Q", queues, "-n", "worker1@%h")
        else:
            sections = {"workers": {"processes": 1}, "python": {"app": "controlled"}}
            worker = Fairstalk(directory / "daemon", merged(base_config(redis.url, app_env), sections)).wait_ready()
        try:
            app.send_task("nap", (600,), {"for": "ever"}, task_id=NAP, queue="queue_0")
            app.send_task("nap", (1,), task_id=LATER, countdown=600, queue="queue_1", priority=3)
            eventually(lambda: any(ask(app, "active").values()), PATIENCE)
            eventually(lambda: any(ask(app, "scheduled").values()), PATIENCE)
            found = {}
            for name, arguments in COMMANDS.items():
                (found[name],) = ask(app, name.split(" ")[0], arguments).values()
            return found
        finally:
            worker.clear_away()
            if kind == "fairstalk":
                worker.notify.close()
            example_app.disconnect(app)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a stock worker and fairstalk answer, by kind and command."""
    return {kind: answers_of(kind, tmp_path_factory.mktemp(kind)) for kind in ("celery", "fairstalk")}


@pytest.mark.parametrize("command", COMMANDS)
def test_answers_have_the_same_form(answers, command):
    """Keys and types, for each command; and where the words count, the words."""
    stock, ours = (answers[kind][command] for kind in ("celery", "fairstalk"))
    if command in DIFFERENT:
        check, _ = DIFFERENT[command]
        return check(stock, ours)
    assert shape(ours) == shape(stock)
    if "ok" in stock and command != "report" or "error" in stock:
        assert ours == stock


def test_what_is_told_of_tasks(answers):
    """The same of both, but for what belongs to the process and the moment."""
    for command in ("active", "active safe", "scheduled", "query_task", "registered", "registered items", "revoked"):
        stock, ours = (plain(answers[kind][command]) for kind in ("celery", "fairstalk"))
        assert ours == stock, command
    assert answers["fairstalk"]["greet"]["greeting"] == "salve"
    assert answers["fairstalk"]["greet"]["nap"] is True


def plain(value):
    """Without what differs from run to run."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()
                if key not in ("time_start", "worker_pid", "eta", "acknowledged")}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def controlled(fairstalk, app_env, tmp_path, celery_app):
    """Factory of daemons with that application."""

    def start(**sections):
        (tmp_path / "controlled.py").write_text(APPLICATION)
        app_env["PYTHONPATH"] = str(tmp_path)
        base = {"python": {"app": "controlled"}, "workers": {"drain_timeout": "1s"}}
        return fairstalk(**merged(base, sections))

    return start


def celery_tool(app_env, *arguments):
    command = [*celery_command("controlled"), *arguments]
    return subprocess.run(command, cwd=PROJECT, env=clean_environment(**app_env), capture_output=True, text=True)


def test_celerys_own_programs_under_load(controlled, celery_app, app_env, client):
    """All slots busy, 2,000 messages waiting: `celery status`, `inspect` and `control` are content."""
    controlled()
    for _ in range(4):
        celery_app.send_task("nap", (600,))
    for _ in range(2000):
        tasks.noop.delay()
    eventually(lambda: sum(map(len, ask(celery_app, "active", count=2).values())) == 4, PATIENCE)
    for arguments in (("status",), ("inspect", "active"), ("inspect", "stats"), ("inspect", "report"),
                      ("inspect", "greet"), ("control", "time_limit", "nap", "10", "20")):
        done = celery_tool(app_env, *arguments, "--timeout", "4")
        assert (done.returncode, *(done.stdout.count(f"->  worker{n}@") for n in (1, 2))) == (0, 1, 1), (
            arguments, done.stdout[-2000:], done.stderr[-2000:])
    inspect = celery_app.control.inspect(timeout=10, limit=2)
    for found in (inspect.active(), inspect.reserved(), inspect.scheduled(), inspect.revoked(), inspect.clock()):
        assert len(found) == 2
    assert replies(client) == []
    result = tasks.noop_result.apply_async(("seen",), queue="queue_2")
    for nap in [task["id"] for found in inspect.active().values() for task in found]:
        celery_app.control.revoke(nap, terminate=True, signal="KILL")
    result.get(timeout=PATIENCE)
    done = celery_tool(app_env, "result", result.id)
    assert (done.returncode, done.stdout.strip()) == (0, "seen"), done.stderr


def replies(client):
    return [key for key in client.keys("*") if key.endswith(b".reply.celery.pidbox")]


def test_who_is_asked(controlled, celery_app):
    """Destination, patterns of both kinds; and nobody waits for an answer that comes too late."""
    controlled()
    first, second = sorted(ask(celery_app, "ping", count=2))
    assert list(ask(celery_app, "ping", destination=[second])) == [second]
    assert list(ask(celery_app, "ping", pattern="worker1*", matcher="glob")) == [first]
    assert list(ask(celery_app, "ping", pattern="worker[2]@", matcher="pcre")) == [second]
    for pattern, matcher in (("orker1", "pcre"), ("worker1@", "glob"), ("(", "pcre"), ("*", "sql")):
        assert celery_app.control.broadcast("ping", reply=True, timeout=0.5, pattern=pattern, matcher=matcher) == []


def test_commands_of_the_application_hold_up_nobody(controlled, celery_app, client):
    """While one hangs, others are answered; it dies with its worker."""
    daemon = controlled(workers={"processes": 1})
    for _ in range(3):
        celery_app.control.broadcast("hangs")
    eventually(lambda: len(daemon.pids("hangs for worker1@")) == 3, PATIENCE)
    (answer,) = ask(celery_app, "greet").values()
    assert answer["pid"] not in daemon.pids("zygote") + daemon.pids("runner")
    (answer,) = ask(celery_app, "ping").values()
    assert answer == {"ok": "pong"}
    celery_app.send_task("limited").get(timeout=PATIENCE)
    os.kill(daemon.pids("worker 1")[0], signal.SIGKILL)
    eventually(lambda: not daemon.pids("hangs"), PATIENCE)


def test_what_monitors_ask_takes_no_python(controlled, celery_app):
    """The application has said at its import what its settings and its tasks are; a new import is asked again."""
    daemon = controlled()

    def known():
        (zygote,) = eventually(lambda: len(found := daemon.pids("zygote")) == 1 and found, PATIENCE)
        os.kill(zygote, signal.SIGSTOP)
        try:
            inspect = celery_app.control.inspect(timeout=10, limit=2)
            return [*inspect.conf().values()], [*inspect.registered().values()]
        finally:
            os.kill(zygote, signal.SIGCONT)

    confs, names = known()
    assert [conf["task_default_queue"] for conf in confs] == ["queue_0"] * 2
    assert len(names) == 2 and all("limited [rate_limit=100/s]" in found and "nap" in found for found in names)
    module = daemon.directory.parent / "controlled.py"
    module.write_text(APPLICATION.replace('name="nap"', 'name="siesta"').replace('"queue_0"', '"queue_1"'))
    assert daemon.call("reload", "--pid", daemon.pid).returncode == 0
    confs, names = known()
    assert [conf["task_default_queue"] for conf in confs] == ["queue_1"] * 2
    assert all("siesta" in found and "nap" not in found for found in names)


def test_limits_that_are_set_count(controlled, celery_app):
    """The task's own ones are replaced; with none, the application's count again."""
    controlled(workers={"processes": 1})
    ask(celery_app, "time_limit", {"task_name": "nap", "soft": None, "hard": 0.5})
    with pytest.raises(TimeLimitExceeded):
        celery_app.send_task("nap", (600,)).get(timeout=PATIENCE)
    ask(celery_app, "time_limit", {"task_name": "nap", "soft": 0.5, "hard": None})
    with pytest.raises(SoftTimeLimitExceeded):
        celery_app.send_task("nap", (600,)).get(timeout=PATIENCE)
    ask(celery_app, "time_limit", {"task_name": "nap"})
    celery_app.send_task("nap", (1,)).get(timeout=PATIENCE)


def test_stamped_tasks_are_taken_back(controlled, celery_app, client):
    """Those that run are ended; those that come later are not started, by later workers neither."""
    daemon = controlled()
    stamped = lambda who, seconds: celery_app.send_task(
        "nap", (seconds,), headers={"stamped_headers": ["who"], "stamps": {"who": [who]}}, who=[who])
    runs, other = stamped("a", 600), stamped("b", 600)
    eventually(lambda: sum(map(len, ask(celery_app, "active", count=2).values())) == 2, PATIENCE)
    ended = ask(celery_app, "revoke_by_stamped_headers", {"headers": {"who": ["a", "c"]}, "terminate": True}, count=2)
    assert {answer["ok"] for answer in ended.values()} == {
        "headers defaultdict(<class 'set'>, {'who': {'a'}}) revoked", "headers {'who': ['a', 'c']} were not terminated"}
    daemon.popen.kill()
    eventually(lambda: not daemon.left(), PATIENCE)
    controlled()
    for result in (runs, stamped("c", 0), stamped("a", 0)):
        with pytest.raises(TaskRevokedError):
            result.get(timeout=PATIENCE)
    stamped("d", 0).get(timeout=PATIENCE)
    assert other.state == "PENDING"
    assert set(map(tuple, ask(celery_app, "revoked", count=2).values())) == {()}


def test_each_delayed_task_is_told_once(controlled, celery_app):
    """By the worker that has put it aside; after a crash by another."""
    daemon = controlled()
    sent = {celery_app.send_task("nap", (1,), countdown=600).id for _ in range(30)}

    def told():
        found = ask(celery_app, "scheduled", count=2).values()
        return sorted(task["request"]["id"] for tasks in found for task in tasks) == sorted(sent)

    eventually(told, PATIENCE)
    os.kill(daemon.pids("worker 1")[0], signal.SIGKILL)
    eventually(lambda: len(celery_app.control.ping(timeout=1)) == 2, PATIENCE)
    eventually(told, PATIENCE)


def test_shutdown(controlled, celery_app, client):
    """Of one node: it ends and another takes its place. Of all: the daemon ends as by TERM."""
    daemon = controlled()
    first, second = sorted(ask(celery_app, "stats", count=2))
    before = ask(celery_app, "stats", count=2)
    celery_app.control.shutdown(destination=[first])

    def replaced():
        found = celery_app.control.inspect(timeout=2, limit=2).stats() or {}
        return len(found) == 2 and found[first]["pid"] != before[first]["pid"] and found

    assert eventually(replaced, PATIENCE)[second]["pid"] == before[second]["pid"]
    celery_app.control.shutdown()
    assert daemon.wait() == 0
    assert client.keys("fairstalk:owners") == []


def test_runners_are_replaced(controlled, celery_app):
    """`pool_restart`: each when its task has ended."""
    controlled(workers={"processes": 1})
    runners = lambda: set(next(iter(ask(celery_app, "stats").values()))["pool"]["processes"])
    before = runners()
    nap = celery_app.send_task("nap", (2,))
    eventually(lambda: any(ask(celery_app, "active").values()), PATIENCE)
    assert ask(celery_app, "pool_restart") == {node: {"ok": "reload started"} for node in ask(celery_app, "ping")}
    nap.get(timeout=PATIENCE)
    eventually(lambda: len(runners()) == 2 and not runners() & before, PATIENCE)
