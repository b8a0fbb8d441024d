"""Tasks that would run for ever, or die: the same ends under a stock `celery worker` and under fairstalk."""
import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import chord
from celery.exceptions import ChordError
from celery.result import AsyncResult
from harness.broker import stored, wait_settled
from harness.waiting import eventually

from bench import tasks

PATIENCE = 40

#: An application with tasks that don't listen, limits of its own, and, if the environment says so, defaults for others.
LIMITS = """
import os, signal, time
from imgbackend.celery import app

for kind in ("time_limit", "soft_time_limit"):
    if kind in os.environ:
        app.conf["task_" + kind] = int(os.environ[kind])

def stay():
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

@app.task(name="limits.deaf")
def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(600)

@app.task(name="limits.busy")
def busy():
    sum(range(10 ** 14))  # never comes back to the interpreter, and keeps its lock

@app.task(name="limits.stubborn")
def stubborn():
    stay()

@app.task(name="limits.own", time_limit=2)
def own():
    stay()

@app.task(name="limits.soft", soft_time_limit=1)
def soft():
    time.sleep(600)

@app.task(name="limits.plain")
def plain():
    time.sleep(600)
"""


@pytest.fixture
def limits(app_env, tmp_path):
    """Environment in which `limits` is an application."""
    (tmp_path / "limits.py").write_text(LIMITS)
    app_env["PYTHONPATH"] = str(tmp_path)


@pytest.fixture
def limited(limits, start_worker):
    """A worker of that application, with four slots."""
    return start_worker(app="limits")


def check_limit(result, kind, *args):
    """The caller gets this exception."""
    with pytest.raises(kind) as caught:
        result.get(timeout=PATIENCE)
    assert (caught.value.args, result.state) == (args, "FAILURE")


@pytest.mark.parametrize("name", ["limits.deaf", "limits.busy", "limits.stubborn"])
def test_a_hard_limit_needs_no_cooperation(limited, celery_app, client, ledger, name):
    """Signals blocked, a loop in C that holds the interpreter, exceptions swallowed: killed all the same, and callers,
    errbacks and chords are told.
    """
    sent = celery_app.send_task(name, time_limit=1, link_error=tasks.errback.s(str(ledger)))
    member = celery_app.signature(name, immutable=True).set(time_limit=1)
    body = chord([member, tasks.add.si(1, 1)], tasks.total.s()).apply_async()
    check_limit(sent, TimeLimitExceeded, 1)
    told = eventually(ledger.lines, PATIENCE)  # by Celery sometimes twice
    assert {(line["task"], line["error"]) for line in told} == {(sent.id, "TimeLimitExceeded(1)")}
    with pytest.raises(ChordError, match="TimeLimitExceeded"):
        AsyncResult(body.id).get(timeout=PATIENCE)
    result = stored(client, sent.id)
    expected = {"exc_type": "TimeLimitExceeded", "exc_message": [1], "exc_module": "billiard.exceptions"}
    assert (result["status"], result["result"]) == ("FAILURE", expected)
    assert [task.get(timeout=PATIENCE) for task in [tasks.add.delay(n, 1) for n in range(8)]] == list(range(1, 9))
    wait_settled(client)


def test_which_limit_counts(limits, app_env, start_worker, celery_app, client):
    """The call's, else the task's, else the application's default; 0 in a call is none."""
    app_env |= {"time_limit": "3", "soft_time_limit": "1"}
    start_worker(app="limits")
    send = celery_app.send_task
    found = [send("limits.own", time_limit=1), send("limits.own"), send("limits.own", time_limit=0), send("limits.stubborn")]
    for result, seconds in zip(found, (1, 2, 2, 3)):
        check_limit(result, TimeLimitExceeded, seconds)
    for result in [send("limits.soft"), send("limits.plain"), send("limits.plain", soft_time_limit=2)]:
        check_limit(result, SoftTimeLimitExceeded)
    wait_settled(client)


@pytest.mark.parametrize("setting", [None, "3"], ids=["no setting", "a setting"])
@pytest.mark.parametrize("worker", ["celery", "fairstalk"])
def test_the_workers_own_limits(limits, app_env, celery_app, request, worker, setting):
    """`[python] time_limit` and `soft_time_limit` are `celery worker --time-limit` and `--soft-time-limit`: they count
    where neither the task nor the application has a limit.
    """
    app_env |= {"time_limit": setting} if setting else {}

    def check():
        plain, stubborn, own = [celery_app.send_task(f"limits.{name}") for name in ("plain", "stubborn", "own")]
        check_limit(plain, SoftTimeLimitExceeded)
        check_limit(stubborn, TimeLimitExceeded, int(setting or 4))
        check_limit(own, TimeLimitExceeded, 2)

    if worker == "fairstalk":
        keys = {"app": "limits", "time_limit": "4s", "soft_time_limit": "1s"}
        daemon = request.getfixturevalue("fairstalk")(python=keys)
        check()
        assert daemon.log().count("soft time limit exceeded") == 3
        return
    options = ("-c", "4", "--time-limit", "4", "--soft-time-limit", "1")
    with request.getfixturevalue("stock_worker")(*options, app="limits") as stock:
        check()
        stock.clear_away()


@pytest.mark.parametrize("worker", ["celery", "fairstalk"])
def test_a_process_that_dies_is_told(celery_app, request, ledger, worker):
    """Callers, errbacks and chords get `WorkerLostError`; fairstalk tries again first, unless told not to."""
    def check():
        lost = tasks.kill_self.apply_async((9,), link_error=tasks.errback.s(str(ledger)))
        with pytest.raises(WorkerLostError, match=r"Worker exited prematurely: signal 9 \(SIGKILL\)"):
            lost.get(timeout=PATIENCE)
        line = eventually(ledger.lines, PATIENCE)[0]
        assert line["task"] == lost.id and "signal 9 (SIGKILL)" in line["error"]
        body = chord([tasks.kill_self.si(9), tasks.add.si(1, 1)], tasks.total.s()).apply_async()
        with pytest.raises(ChordError, match="WorkerLostError"):
            AsyncResult(body.id).get(timeout=PATIENCE)
        assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3

    if worker == "fairstalk":
        request.getfixturevalue("fairstalk")(delivery={"max_deliveries": 1})
        return check()
    with request.getfixturevalue("stock_worker")("-c", "4") as stock:
        check()
        stock.clear_away()
