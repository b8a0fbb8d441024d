"""The journal tells a task's whole story with all fields, storms are bounded, JSON is JSON."""
import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from harness.broker import wait_settled
from harness.daemon import binary, clean_environment
from harness.journal import Journal
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

PATIENCE = 40
LOG = {"format": "journal", "tasks": "all"}
ONE = {"processes": 1, "concurrency": 1}
FOUR = {"processes": 1, "concurrency": 4}


@pytest.fixture
def journal():
    """A journal of the test's own."""
    journal = Journal()
    yield journal
    journal.close()


@pytest.fixture
def logging_to(fairstalk, journal):
    """`logging_to(workers={…})`: a daemon that logs to the test's journal."""

    def start(log=None, **sections):
        return fairstalk(log={**LOG, "journal_socket": journal.path, **(log or {})}, **sections)

    return start


def test_a_whole_story(celery_app, logging_to, journal):
    """Claimed, everything the task says by whatever way, ended: in this order, each with the fields of the task."""
    daemon = logging_to(workers=ONE)
    sent = tasks.log_lines.apply_async((3,), {}, queue=get_queue_for_user(7))
    assert sent.get(timeout=PATIENCE) == 3
    story = journal.story(sent.id, "succeeded")
    (runner,) = daemon.pids("runner of")
    for record in story:
        expected = {
            "TASK_NAME": "bench.tasks.log_lines",
            "QUEUE": get_queue_for_user(7),
            "WORKER": "1",
            "RUNNER_PID": str(runner),
            "ATTEMPT": "1",
            "PROCESS": "worker 1",
            "SYSLOG_IDENTIFIER": "fairstalk",
        }
        assert expected.items() <= record.items()
    assert story[0]["MESSAGE"] == "started"
    assert story[-1]["OUTCOME"] == "succeeded" and int(story[-1]["RUNTIME_MS"]) >= 0
    said = [(record["MESSAGE"], record["LOGGER"], record["PRIORITY"]) for record in story[1:-1]]
    assert sorted(said) == sorted(
        line
        for number in range(3)
        for line in (
            (f"task logger {number}", "bench.tasks", "6"),
            (f"module logger {number}", "bench.tasks", "4"),
            (f"print {number}", "celery.redirected", "4"),
            (f"descriptor {number}", "output", "6"),
            (f"subprocess {number}", "output", "6"),
        )
    )


def test_the_last_words_of_a_program_are_its_tasks(celery_app, logging_to, journal):
    """What is written just before a task ends comes before its end, and is never taken for another task's."""
    logging_to(workers=ONE, log={"storm_output": 0})
    sent = [tasks.log_lines.delay(1) for _ in range(30)]
    for task in sent:
        task.get(timeout=PATIENCE)
    for task in sent:
        story = journal.story(task.id, "succeeded")
        assert story[-1]["OUTCOME"] == "succeeded"
        assert "subprocess 0" in [record["MESSAGE"] for record in story]
    assert not [record for record in journal.records if record["MESSAGE"] == "subprocess 0" and "TASK_ID" not in record]


def test_output_of_short_tasks_is_told_apart(celery_app, logging_to, journal):
    """Runners go on to the next before the worker has heard of the end of the last: a line is of its task nevertheless."""
    logging_to(workers=FOUR, log={"tasks": "failures", "storm_output": 0})
    for _ in range(1000):  # so many that the worker knows them to be short
        tasks.noop.delay()
    sent = [task.delay() for _ in range(60) for task in [tasks.noop] * 20 + [tasks.say_own_id]][20::21]
    ids = {task.id for task in sent}
    said = eventually(
        lambda: len(found := [record for record in list(journal.records) if record["MESSAGE"] in ids]) == len(ids) and found,
        PATIENCE,
    )
    assert [record.get("TASK_ID") for record in said] == [record["MESSAGE"] for record in said]


def test_retries_and_the_traceback(celery_app, logging_to, journal):
    """Every attempt is part of the story; the failure has its traceback in one record. The tenant is told."""
    logging_to(workers=ONE)
    retried = tasks.hopeless.delay(retries=1, countdown=0.01)
    with pytest.raises(Exception):
        retried.get(timeout=PATIENCE)
    story = journal.story(retried.id, "failed")
    outcomes = [(record["OUTCOME"], record["ATTEMPT"]) for record in story if "OUTCOME" in record]
    assert [outcome for outcome in outcomes if outcome[0] != "delayed"] == [("to be retried", "1"), ("failed", "2")]
    assert (story[-1]["PRIORITY"], "Traceback (most recent call last):\n" in story[-1]["MESSAGE"]) == ("3", True)
    owned = enqueue_task_to_user_queue(tasks.noop, 42, user_id=42)
    assert {record["TENANT"] for record in journal.story(owned.id, "succeeded")} == {"42"}


def test_what_is_killed(celery_app, logging_to, journal, client, ledger):
    """A lost runner, a recovered claim, work handed back, a dead letter: each has its record with the task's fields."""
    daemon = logging_to(workers={**ONE, "restart_min": "10ms", "drain_timeout": "0s"}, delivery={"max_deliveries": 2})
    poison = tasks.kill_self.apply_async(kwargs={}, queue="queue_3")
    story = journal.story(poison.id, "dead-letter", PATIENCE)
    assert [record["OUTCOME"] for record in story if "OUTCOME" in record] == ["lost", "lost", "dead-letter"]
    assert {record["QUEUE"] for record in story} == {"queue_3"}
    wait_settled(client)
    slow = enqueue_task_to_user_queue(tasks.record, 5, 5, 1, str(ledger), seconds=60)
    ledger.wait("start", 1)
    (worker,) = daemon.pids("worker 1")
    os.kill(worker, signal.SIGKILL)
    ledger.wait("start", 2)
    story = journal.story(slow.id, "recovered")
    (recovered,) = [record for record in story if record.get("OUTCOME") == "recovered"]
    assert (recovered["TENANT"], recovered["TASK_NAME"]) == ("5", "bench.tasks.record")
    assert re.fullmatch(r".+:\d+:[0-9a-f]{8}\.[0-9a-f]{6}:1\.\d+", recovered["OWNER"])
    assert daemon.stop() == 75
    assert journal.story(slow.id, "handed-back")[-1]["OUTCOME"] == "handed-back"


def test_commands_tell_theirs(celery_app, logging_to, journal):
    """A command's standard error is part of the story of its task, and so is its retry."""
    command = [sys.executable, "-c", "import sys; print('one\\ntwo', file=sys.stderr); sys.exit(3)"]
    logging_to(**{'tasks."loud"': {"command": command, "max_retries": 1, "retry_backoff": "1ms"}})
    sent = celery_app.send_task("loud", queue=get_queue_for_user(9), kwargs={"user_id": 9})
    story = journal.story(sent.id, "failed", PATIENCE)
    assert [record["MESSAGE"] for record in story if record.get("LOGGER") == "output"] == ["one", "two"] * 2
    assert {record["TENANT"] for record in story} == {"9"}
    assert [record["ATTEMPT"] for record in story if record.get("OUTCOME") in ("to be retried", "failed")] == ["1", "2"]


def test_a_storm_is_bounded_and_counted(celery_app, logging_to, journal, client):
    """Of many like failures a few are told, and the number of the others; every dead letter is told."""
    logging_to(log={"tasks": "failures", "storm_lines": 5, "storm_window": "1s"}, workers=ONE)
    failing = [tasks.fail.delay("no") for _ in range(300)]
    unknown = [celery_app.send_task("no.such.task") for _ in range(30)]
    for task in failing:
        with pytest.raises(ValueError):
            task.get(timeout=PATIENCE)
    wait_settled(client)
    name = "bench.tasks.fail"

    def counted():
        own = [record for record in list(journal.records) if record.get("TASK_NAME") == name]
        shown = [record for record in own if "TASK_ID" in record]
        summaries = [record for record in own if "SUPPRESSED" in record]
        total = len(shown) + sum(int(record["SUPPRESSED"]) for record in summaries)
        return (shown, summaries) if total == 300 else None

    shown, summaries = eventually(counted, PATIENCE, lambda: f"{len(journal.records)} records")
    assert summaries and len(shown) <= 5 * (len(summaries) + 1)
    assert all("more lines like this in 1 s" in record["MESSAGE"] for record in summaries)
    assert {record["OUTCOME"] for record in summaries} == {"failed"}
    letters = {record["TASK_ID"] for record in list(journal.records) if record.get("OUTCOME") == "dead-letter"}
    assert letters == {task.id for task in unknown}


def test_a_talkative_task_is_cut(celery_app, logging_to, journal):
    """After its share of lines a task is told of once, and at its end how many lines were dropped."""
    logging_to(log={"task_output": 7})
    sent = tasks.log_lines.delay(4)
    sent.get(timeout=PATIENCE)
    story = journal.story(sent.id, "succeeded")
    assert len([record for record in story if "LOGGER" in record]) == 7
    (told,) = [record["MESSAGE"] for record in story if "from here on" in record["MESSAGE"]]
    (dropped,) = [record for record in story if "SUPPRESSED" in record]
    assert dropped["SUPPRESSED"] == str(4 * 5 - 7)


def test_json_lines(celery_app, fairstalk):
    """One object a line, with the same fields; the option of the command wins over the file."""
    daemon = fairstalk(log={"format": "text", "tasks": "all"}, arguments=["--log-format", "json"])
    sent = enqueue_task_to_user_queue(tasks.fail, 4, "a\nb")
    with pytest.raises(ValueError):
        sent.get(timeout=PATIENCE)
    story = eventually(lambda: [r for r in daemon.records() if r.get("task_id") == sent.id and "outcome" in r])
    (record,) = story
    assert {"time", "level", "process", "message", "task_id", "task_name", "queue", "worker", "runner_pid"} <= set(record)
    assert (record["level"], record["outcome"], record["attempt"]) == ("error", "failed", 1)
    assert "Traceback (most recent call last):\n" in record["message"]
    assert json.dumps(record["runtime_ms"]).isdigit()


def test_without_a_journal(fairstalk, tmp_path):
    """A journal that isn't there is said to be missing, in text; nothing is lost over it."""
    daemon = fairstalk(log={"format": "journal", "journal_socket": str(tmp_path / "none")})
    daemon.wait_log(r"WARN  supervisor: no journal listens at .*/none: .*; logging text instead")


@pytest.mark.parametrize("variables, coloured", [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_on_a_terminal(tmp_path, variables, coloured):
    """On a terminal the level is in colour, unless NO_COLOR is set; messages begin in one column."""
    config = tmp_path / "fairstalk.toml"
    config.write_text(f'[broker]\nurl = "unix://{tmp_path}/none"\n[tasks.echo]\ncommand = ["/bin/cat"]\n')
    ours, theirs = pty.openpty()
    environment = clean_environment(**variables)
    if not variables:
        environment.pop("NO_COLOR", None)
    process = subprocess.Popen([binary(), "run", "--config", config], env=environment, stderr=theirs)
    os.close(theirs)
    shown = ""
    while "worker 1:" not in shown:
        shown += os.read(ours, 65536).decode()
    process.terminate()
    while more := read_rest(ours):
        shown += more
    assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert ("\x1b[33mWARN \x1b[0m worker 1:   " in shown) == coloured
    assert ("\x1b" in shown) == coloured
    assert "WARN  worker 1:   " in shown or coloured


def read_rest(terminal):
    """More of what is shown; nothing once the other end is closed, which a terminal tells as an error."""
    try:
        return os.read(terminal, 65536).decode()
    except OSError:
        return ""
