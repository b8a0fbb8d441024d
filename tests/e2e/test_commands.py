"""Tasks that are commands: any executable, with results and failures as Python's callers know them."""
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from billiard.exceptions import TimeLimitExceeded
from harness.broker import call_of, stored, wait_settled, waiting
from harness.daemon import merged
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import get_queue_for_user

PATIENCE = 30
QUICK = {"max_retries": 0}
ECHO = {"command": ["/bin/cat"]}


def python(text, *arguments, **keys):
    """A command task that is a few lines of Python."""
    return {"command": [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)], **QUICK, **keys}


@pytest.fixture
def commands(celery_app, fairstalk):
    """`commands(echo={…})`: a daemon with these command tasks and no application."""

    def start(sections=None, **definitions):
        quoted = {f'tasks."{name}"': definition for name, definition in definitions.items()}
        config = merged({"python": None, "workers": {"processes": 1}, **quoted}, sections or {})
        return fairstalk(**config)

    return start


def test_what_goes_in_and_what_comes_out(celery_app, commands, client):
    """One JSON object on standard input; the JSON on standard output is the result."""
    daemon = commands(echo=ECHO, silent={"command": ["/bin/true"]})
    sent = celery_app.send_task("echo", (1, "ü", [None]), {"user_id": 42, "x": 1.5}, queue=get_queue_for_user(42))
    assert sent.get(timeout=PATIENCE) == {
        "id": sent.id,
        "task": "echo",
        "args": [1, "ü", [None]],
        "kwargs": {"user_id": 42, "x": 1.5},
        "retries": 0,
        "queue": get_queue_for_user(42),
        "tenant": "42",
    }
    assert celery_app.send_task("echo").get(timeout=PATIENCE)["tenant"] is None
    assert celery_app.send_task("silent").get(timeout=PATIENCE) is None
    quiet = celery_app.send_task("echo", ignore_result=True)
    eventually(lambda: not client.llen("queue_0"))
    wait_settled(client)
    assert stored(client, quiet.id) is None
    assert [process for _, _, process in daemon.tree() if "zygote" in process] == []


def test_no_shell(celery_app, commands, tmp_path):
    """An argument is an argument, whatever stands in it; the directory and the environment are as configured."""
    text = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['OWN']]))"
    literal = ["$(touch x)", "; touch y", "*", "a b", "`id`"]
    commands(show=python(text, *literal, directory=tmp_path, env={"OWN": "$HOME"}))
    assert celery_app.send_task("show").get(timeout=PATIENCE) == [literal, str(tmp_path), "$HOME"]
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()


def test_large_input_and_output(celery_app, commands):
    """Some megabytes each way; a command that reads nothing is not in the way of itself."""
    commands(echo=ECHO, deaf=python("print(7)"))
    text = "x" * 3_000_000
    assert celery_app.send_task("echo", (text,)).get(timeout=PATIENCE)["args"] == [text]
    assert celery_app.send_task("deaf", (text,)).get(timeout=PATIENCE) == 7


def test_failures(celery_app, commands):
    """What the `subprocess` module would raise, with what the command said; and the daemon works on."""
    commands(
        exits=python("import sys; sys.exit('no such product')"),
        killed=python("import os; os.kill(os.getpid(), 9)"),
        talks=python("print('all is well')"),
        slow={"command": ["/bin/sleep", "60"], "time_limit": "500ms", **QUICK},
        missing={"command": ["/nowhere/render"], **QUICK},
        echo=ECHO,
    )
    with pytest.raises(subprocess.CalledProcessError) as caught:
        celery_app.send_task("exits").get(timeout=PATIENCE)
    assert caught.value.returncode == 1
    assert caught.value.stderr == "no such product\n"
    assert caught.value.cmd[0] == sys.executable
    with pytest.raises(subprocess.CalledProcessError) as caught:
        celery_app.send_task("killed").get(timeout=PATIENCE)
    assert caught.value.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="did not write one JSON value"):
        celery_app.send_task("talks").get(timeout=PATIENCE)
    with pytest.raises(TimeLimitExceeded):
        celery_app.send_task("slow").get(timeout=PATIENCE)
    with pytest.raises(OSError, match="/nowhere/render"):
        celery_app.send_task("missing").get(timeout=PATIENCE)
    assert celery_app.send_task("echo", (1,)).get(timeout=PATIENCE)["args"] == [1]


def test_retries(celery_app, commands, client, tmp_path):
    """A failure is tried again so many times, seen as RETRY in between, and then it is one."""
    tries = tmp_path / "tries"
    text = """
        import json, sys
        task = json.load(sys.stdin)
        with open(sys.argv[1], "a") as tries:
            tries.write(f"{task['retries']}\\n")
        if task["retries"] < task["kwargs"]["fails"]:
            sys.exit(f"try {task['retries']}")
        print(json.dumps("done"))
    """
    options = {"max_retries": 2, "retry_backoff": "300ms", "retry_jitter": False}
    commands(flaky=python(text, tries, **options))
    lucky = celery_app.send_task("flaky", kwargs={"fails": 2})
    eventually(lambda: lucky.state == "RETRY", PATIENCE)
    assert isinstance(lucky.result, subprocess.CalledProcessError)
    assert lucky.get(timeout=PATIENCE) == "done"
    unlucky = celery_app.send_task("flaky", kwargs={"fails": 9})
    with pytest.raises(subprocess.CalledProcessError) as caught:
        unlucky.get(timeout=PATIENCE)
    assert caught.value.stderr == "try 2\n"
    assert tries.read_text().split() == ["0", "1", "2"] * 2
    wait_settled(client)
    assert not client.exists("fairstalk:delayed", "fairstalk:delayed:messages")


def test_output_is_attributed(celery_app, commands):
    """Each line on standard error is in the log with the task's fields, as soon as it is written."""
    text = "import sys, time; print('first line', file=sys.stderr, flush=True); time.sleep(60)"
    daemon = commands({"log": {"format": "json"}}, talk=python(text))
    sent = celery_app.send_task("talk", kwargs={"user_id": 42}, queue=get_queue_for_user(42))
    daemon.wait_log("first line")
    (record,) = [record for record in daemon.records() if record["message"] == "first line"]
    fields = {key: record[key] for key in ("task_id", "task_name", "queue", "tenant", "attempt")}
    assert fields == {
        "task_id": sent.id,
        "task_name": "talk",
        "queue": get_queue_for_user(42),
        "tenant": "42",
        "attempt": 1,
    }
    daemon.signal(signal.SIGTERM)
    daemon.notify.wait_for(lambda state: state.get("STOPPING") == "1")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 75


def test_what_outlives_a_short_command_is_heard(celery_app, commands):
    """The command has ended, and something that it started still writes: it has not ended before that has."""
    text = "echo early >&2; (sleep 1; echo late >&2; echo 7) & echo '[1,'; echo '2,' "
    daemon = commands({"log": {"format": "json"}}, brief={"command": ["/bin/sh", "-c", text + "; (sleep 1.5; echo ']') &"], **QUICK})
    sent = celery_app.send_task("brief")
    assert sent.get(timeout=PATIENCE) == [1, 2, 7]
    said = [record["message"] for record in daemon.records() if record.get("task_id") == sent.id]
    assert [line for line in said if line in ("early", "late")] == ["early", "late"]


def test_the_environment_is_the_daemon_s(celery_app, commands):
    """What the daemon says to its own processes of their memory is not said to a command; what the operator says is."""
    show = python("import json, os; print(json.dumps(os.environ.get('GLIBC_TUNABLES')))")
    daemon = commands(show=show, told={**show, "env": {"GLIBC_TUNABLES": "glibc.malloc.perturb=1"}})
    assert celery_app.send_task("show").get(timeout=PATIENCE) is None
    assert celery_app.send_task("told").get(timeout=PATIENCE) == "glibc.malloc.perturb=1"
    (worker,) = [pid for pid, _, process in daemon.tree() if "worker 1" in process]
    with open(f"/proc/{worker}/environ", "rb") as environment:
        assert b"\0GLIBC_TUNABLES=glibc.malloc." in b"\0" + environment.read()


def test_a_killed_worker_leaves_no_command_behind(celery_app, commands, client, tmp_path):
    """The command and what it started go with the worker; the task runs again and its result is there."""
    text = """
        import os, pathlib, subprocess, sys, time
        first = pathlib.Path(sys.argv[1])
        if not first.exists():
            child = subprocess.Popen(["sleep", "1001"])
            first.write_text(f"{os.getpid()} {child.pid}")
            time.sleep(1000)
        print(2)
    """
    first = tmp_path / "first"
    daemon = commands(stays=python(text, first))
    sent = celery_app.send_task("stays")
    pids = {int(pid) for pid in eventually(lambda: first.exists() and first.read_text()).split()}
    (victim,) = daemon.pids("worker 1")
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not pids & {process.pid for process in daemon.left()}, what=lambda: str(daemon.left()))
    assert sent.get(timeout=PATIENCE) == 2
    wait_settled(client)


def test_a_killed_supervisor_leaves_no_command_behind(celery_app, commands, tmp_path):
    """Neither the command nor the worker outlives the daemon."""
    daemon = commands(stays={"command": ["/bin/sleep", "1000"]})
    celery_app.send_task("stays")
    eventually(lambda: any("/bin/sleep" in process.cmdline for process in daemon.left()))
    daemon.kill()
    eventually(lambda: not daemon.left(), what=lambda: str(daemon.left()))


def test_a_command_that_is_handed_back(celery_app, commands, client):
    """At the second signal it is killed, and its message is the first in line again."""
    daemon = commands(stays={"command": ["/bin/sleep", "1000"]})
    sent = celery_app.send_task("stays", (1,))
    eventually(lambda: any("/bin/sleep" in process.cmdline for process in daemon.left()))
    daemon.signal(signal.SIGTERM)
    daemon.notify.wait_for(lambda state: state.get("STOPPING") == "1")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 75
    (message,) = waiting(client, "queue_0")
    assert (message["headers"]["id"], message["headers"]["redelivered"]) == (sent.id, True)
    assert call_of(message) == ([1], {})
    assert stored(client, sent.id) is None


def test_beside_an_application(celery_app, fairstalk):
    """Both kinds in one daemon; a Python task may send a command and the other way round."""
    fairstalk(**{'tasks."echo"': ECHO})
    sent = [celery_app.send_task("echo", (n,)) for n in range(10)] + [tasks.add.delay(n, 1) for n in range(10)]
    results = [task.get(timeout=PATIENCE) for task in sent]
    assert [result["args"] for result in results[:10]] == [[n] for n in range(10)]
    assert results[10:] == list(range(1, 11))


def test_from_the_command_line(celery_app, commands):
    """`enqueue` with and without waiting, then `status`, `queues` and `dead list`, for people and as JSON."""
    daemon = commands(echo=ECHO, fails={"command": ["/bin/false"], **QUICK})
    done = daemon.call("enqueue", "echo", "--user", 42, "--args", "[1]", "--kwargs", '{"user_id": 42}', "--wait")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "SUCCESS"
    assert (result["result"]["args"], result["result"]["tenant"]) == ([1], "42")
    assert daemon.call("enqueue", "fails", "--wait").returncode == 70

    daemon.signal(signal.SIGTSTP)
    daemon.notify.wait_for(lambda state: state.get("STATUS", "").startswith("paused"))
    ids = daemon.call("enqueue", "echo", "--user", 42, "--count", 600).stdout.split()
    assert len(set(ids)) == 600
    queues = {queue["queue"]: queue for queue in daemon.ask("queues")}
    assert len(queues) == 20
    assert queues[get_queue_for_user(42)]["waiting"] == 600
    (status,) = daemon.ask("status")
    assert (status["waiting"], status["claimed"], status["dead"]) == (600, 0, 0)
    assert [worker["figures"]["worker"] for worker in status["workers"]] == [1]
    assert "600" in daemon.call("queues", "--waiting").stdout
    assert "600 waiting" in daemon.call("status").stdout
    daemon.signal(signal.SIGCONT)
    assert celery_app.AsyncResult(ids[-1]).get(timeout=PATIENCE)["id"] == ids[-1]
    assert daemon.call("dead", "list").stdout == "no dead letters\n"
    assert daemon.ask("dead", "list") == []
