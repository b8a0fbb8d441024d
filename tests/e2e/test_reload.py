"""Reload: new settings and new code, one worker after the other, while tasks run."""
import json
import os
import re
import signal
import subprocess

import pytest
from harness.broker import unclaimed, wait_settled
from harness.daemon import binary
from harness.waiting import eventually

from bench import tasks

PATIENCE = 60
CONFIG, UNAVAILABLE, INTERNAL = 78, 69, 70

APP = """
import os
from celery import Celery

app = Celery("shop", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])


@app.task(name="shop.version")
def version():
    return {version!r}
"""


def reload(daemon):
    """`fairstalk reload` for this daemon; on this machine there may be others."""
    return daemon.call("reload", "--pid", daemon.pid)


def started(daemon):
    """A reload in the background."""
    command = [binary(), "reload", "--pid", str(daemon.pid)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes(daemon):
    """Pids of its workers and its zygote."""
    return sorted(daemon.pids("worker") + daemon.pids("zygote"))


def fewest_claiming(log):
    """The least number of workers that claimed at the same time since the daemon was ready first, by its log."""
    claiming, least = 0, None
    for line in log.splitlines():
        if re.search(r" supervisor: worker \d+ is ready", line):
            claiming += 1
        elif re.search(r" supervisor: (old worker \d+ is told to finish|worker \d+ ended .*restarting)", line):
            claiming -= 1
        elif " supervisor: ready: " in line:
            least = claiming
        if least is not None:
            least = min(least, claiming)
    return least


@pytest.fixture
def shop(tmp_path):
    """`shop("one")` writes an application whose task returns that."""

    def write(version, text=APP):
        # Each text has a length of its own: Python compares size and second of a file with those of its cache.
        (tmp_path / "shop.py").write_text(text.format(version=version))
        return {"app": "shop", "directory": tmp_path, "env": {"DJANGO_SETTINGS_MODULE": None}}

    return write


@pytest.fixture
def send_record(celery_app, ledger):
    """`send_record(100, seconds=0.05)`: so many tasks over all queues."""
    sent = []

    def send(count, seconds=0.05):
        for n in range(len(sent), len(sent) + count):
            task = tasks.record.apply_async((n, n, str(ledger)), {"seconds": seconds}, queue=f"queue_{n % 20}")
            sent.append(task)
        return sent

    return send


def test_new_code(celery_app, fairstalk, shop):
    """A task's return value changes; before and after there is one zygote, meanwhile never more than two."""
    daemon = fairstalk(python=shop("one"))
    version = lambda: celery_app.send_task("shop.version", queue="queue_0").get(timeout=PATIENCE)
    assert version() == "one"
    before = processes(daemon)
    shop("another")
    command = started(daemon)
    most = 0
    while command.poll() is None:
        # Runners come to the supervisor, as orphans, when their zygote has ended, and are reaped.
        children = [title for _, parent, title in daemon.tree() if parent == daemon.pid and "runner" not in title]
        most = max(most, len(children))
    assert (command.returncode, command.communicate()) == (0, ("reloaded; the configuration is as before\n", ""))
    assert len(before) < most <= len(before) + 2
    assert version() == "another"
    after = processes(daemon)
    assert len(after) == len(before) and not set(after) & set(before)
    # The old zygote's last runners come to the supervisor as orphans.
    eventually(lambda: "defunct" not in str(daemon.tree()), what=lambda: f"nothing unreaped in {daemon.tree()}")
    assert daemon.notify.states("READY") == ["1", "1"]
    reloading = [state for state in daemon.notify.states() if "RELOADING" in state]
    assert len(reloading) == 1 and int(reloading[0]["MONOTONIC_USEC"]) > 0
    assert any(text.startswith("reloading: ") for text in daemon.notify.states("STATUS"))
    assert {notification.pid for notification in daemon.notify.received} == {daemon.pid}
    assert daemon.stop() == 0


def test_new_settings(celery_app, fairstalk, redis):
    """Slots, workers and the level of the log; what takes a restart is told and left alone."""
    daemon = fairstalk(log={"format": "text"})
    text = daemon.config_file.read_text()
    text = text.replace('"concurrency" = 2', '"concurrency" = 3').replace('"processes" = 2', '"processes" = 3')
    daemon.configure(text.replace('"format" = "text"', '"format" = "json"\n"level" = "debug"'))
    assert "DEBUG" not in daemon.log()
    done = reload(daemon)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "fairstalk: log.format stays as it is until the daemon is started again\n"
    assert done.stdout == "reloaded; changed: log.level, workers.concurrency, workers.processes\n"
    daemon.notify.wait_for(lambda state: state.get("STATUS", "").startswith("0/9 slots busy"))
    assert [f"worker{n}@" in line for n, line in enumerate(daemon.call("status").stdout.splitlines()[1:4], 1)] == [True] * 3
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    daemon.wait_log(r"DEBUG +worker 3: +ready: 3 slots")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert re.search(r"DEBUG +supervisor: +zygote ended", daemon.log())


def test_a_broken_file(celery_app, fairstalk):
    """All problems are told by the command, in the log and in STATUS; nothing has changed; mended, it works."""
    daemon = fairstalk()
    before = processes(daemon)
    good = daemon.config_file.read_text()
    daemon.configure(good.replace('"concurrency" = 2', '"concurrency" = 0\n"procesess" = 4'))
    done = reload(daemon)
    assert (done.returncode, done.stdout) == (CONFIG, "")
    assert done.stderr == daemon.call("check").stderr
    assert "procesess" in done.stderr and "workers.concurrency = 0" in done.stderr
    daemon.notify.wait_for(lambda state: "; reload failed: 2 problems in " in state.get("STATUS", ""))
    assert "reload failed, nothing has changed: 2 problems in " in daemon.log()
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    assert processes(daemon) == before
    daemon.configure(good)
    seen = len(daemon.notify.received)
    assert reload(daemon).returncode == 0
    daemon.notify.wait_for(lambda state: state.get("STATUS", "").endswith(" tasks/s"), start=seen)


def test_an_application_that_no_longer_imports(celery_app, fairstalk, shop):
    """The traceback comes back, and the old code goes on."""
    daemon = fairstalk(python=shop("one"))
    before = processes(daemon)
    shop("broken", text="import nothing_like_that\n# {version}\n")
    done = reload(daemon)
    assert done.returncode == CONFIG
    assert "shop.py\", line 1" in done.stderr and "No module named 'nothing_like_that'" in done.stderr
    daemon.notify.wait_for(lambda state: "; reload failed: ModuleNotFoundError" in state.get("STATUS", ""))
    assert celery_app.send_task("shop.version", queue="queue_0").get(timeout=PATIENCE) == "one"
    assert processes(daemon) == before


def test_a_database_that_is_not_there(celery_app, fairstalk, redis):
    """Workers that can't work with the new file: the old ones go on."""
    daemon = fairstalk()
    before = daemon.pids("worker")
    daemon.configure(daemon.config_file.read_text().replace(f'"{redis.url}"', f'"{redis.url}99"', 1))
    done = reload(daemon)
    assert done.returncode == CONFIG and "new worker 1: " in done.stderr, done.stderr
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    assert daemon.pids("worker") == before


def test_under_load(celery_app, client, fairstalk, ledger, send_record):
    """There is always something to run, long tasks go across the change too: each runs once, no slot is missing."""
    daemon = fairstalk(workers={"processes": 3, "concurrency": 2})
    sent = send_record(2, seconds=4)
    ledger.wait("start", 2)
    for _ in range(2):
        command = started(daemon)
        while command.poll() is None:
            if unclaimed(client) < 100:
                send_record(100)
        assert (command.returncode, unclaimed(client) > 0) == (0, True), command.communicate()
        command.communicate()
    assert [task.get(timeout=PATIENCE) for task in sent] == list(range(len(sent)))
    wait_settled(client)
    assert sorted(ledger.numbers("start")) == list(range(len(sent)))
    assert fewest_claiming(daemon.log()) == 3
    assert daemon.stop() == 0


def test_tasks_longer_than_a_drain(celery_app, client, fairstalk, ledger, send_record):
    """They are handed back when their time is over, not counted as a delivery that failed, and run in the new workers."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 1, "drain_timeout": "1s"})
    old = daemon.pids("worker")
    send_record(2, seconds=30)
    ledger.wait("start", 2)
    assert reload(daemon).returncode == 0
    assert not set(old) & set(daemon.pids("worker"))
    ledger.wait("start", 4)
    assert sorted(ledger.numbers("start")) == [0, 0, 1, 1]
    claimed = [json.loads(value)[0] for value in client.hvals("unacked")]
    infos = [message["properties"]["delivery_info"] for message in claimed]
    assert [(info["redelivered"], info.get("deliveries", 0)) for info in infos] == [(True, 0)] * 2
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 75


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_worker_killed_in_the_middle(celery_app, client, fairstalk, ledger, send_record, which):
    """The old one while it finishes, or the new one: the reload comes to its end, and only what died runs again."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2})
    old = daemon.pids("worker")
    send_record(4, seconds=10)
    ledger.wait("start", 4)
    command = started(daemon)
    daemon.wait_log("old worker 1 is told to finish")
    pids = [pid for pid in daemon.pids("worker 1") if (pid in old) == (which == "old")]
    os.kill(pids[0], signal.SIGKILL)
    sent = send_record(40)
    assert command.wait(PATIENCE) == 0, command.communicate()
    command.communicate()
    assert [task.get(timeout=PATIENCE) for task in sent] == list(range(len(sent)))
    wait_settled(client)
    runs = [len(pids) for pids in ledger.runs().values()]
    assert len(runs) == len(sent) and max(runs) <= 2
    # At most those that ran in the worker that was killed.
    assert sum(runs) <= len(sent) + 2
    assert not set(old) & set(daemon.pids("worker"))
    assert fewest_claiming(daemon.log()) >= 1


def test_a_storm_of_hangups(celery_app, client, fairstalk, ledger, send_record):
    """Twenty at once are one or two reloads, and no task notices."""
    daemon = fairstalk()
    send_record(100)
    for _ in range(20):
        daemon.signal(signal.SIGHUP)
    assert reload(daemon).returncode == 0
    sent = send_record(20)
    assert [task.get(timeout=PATIENCE) for task in sent] == list(range(len(sent)))
    wait_settled(client)
    assert sorted(ledger.numbers("start")) == list(range(len(sent)))
    assert 1 <= len(daemon.notify.states("RELOADING")) <= 3
    assert daemon.notify.states("READY") == ["1"] * (1 + len(daemon.notify.states("RELOADING")))


def test_term_in_the_middle(celery_app, client, fairstalk, ledger, send_record):
    """Everybody drains, old and new; what has run and what waits are all there is; the command says what happened."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2})
    send_record(4, seconds=8)
    ledger.wait("start", 4)
    command = started(daemon)
    daemon.wait_log("old worker 1 is told to finish")
    sent = send_record(200)
    daemon.signal(signal.SIGTERM)
    assert (command.wait(PATIENCE), "the daemon is told to stop" in command.communicate()[1]) == (INTERNAL, True)
    daemon.notify.wait_for(lambda state: re.fullmatch(r"draining: \d+ tasks? still runs?, \d+ s left", state.get("STATUS", "")))
    assert daemon.wait(PATIENCE) == 0
    assert int(daemon.notify.states("EXTEND_TIMEOUT_USEC")[0]) == 15_000_000
    wait_settled(client)
    left = sum(client.llen(f"queue_{n}") for n in range(20))
    ended = ledger.numbers("end")
    assert sorted(ended) == sorted(ledger.numbers("start")) and len(set(ended)) == len(ended)
    assert set(range(4)) <= set(ended) and len(ended) + left == len(sent)


def test_a_reload_while_paused(celery_app, client, fairstalk, ledger):
    """TSTP: nothing is claimed, also by the new workers, until CONT."""
    daemon = fairstalk()
    daemon.signal(signal.SIGTSTP)
    daemon.notify.wait_for(lambda state: state.get("STATUS", "").startswith("paused: "))
    waiting = tasks.record.apply_async((1, 1, str(ledger)))
    assert reload(daemon).returncode == 0
    assert (unclaimed(client), ledger.lines()) == (1, [])
    daemon.signal(signal.SIGCONT)
    assert waiting.get(timeout=PATIENCE) == 1


def test_whom_to_ask(fairstalk, tmp_path):
    """Without a daemon, or with several and no --pid, the command says so and touches nobody."""
    daemons = [fairstalk(), fairstalk()]
    asked = daemons[0].call("reload")
    assert asked.returncode == UNAVAILABLE
    assert all(str(daemon.pid) in asked.stderr for daemon in daemons)
    assert daemons[0].call("reload", "--pid", os.getpid()).returncode == UNAVAILABLE
    assert all(daemon.notify.states("RELOADING") == [] for daemon in daemons)
