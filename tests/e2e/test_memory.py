"""A task that outgrows its memory limit is killed alone, set aside at once, and told apart from other kills.

Each test runs twice: with cgroups, where there is a tree of version 2 with a memory controller in which a test may
make some, and without, where the daemon looks at /proc.
"""
import os
import sys
import uuid
from pathlib import Path

import pytest
from billiard.exceptions import WorkerLostError
from celery import chord
from harness.broker import stored, wait_settled
from harness.waiting import eventually

from bench import tasks

PATIENCE = 60
MIB = 1 << 20
LIMIT = "250MiB"
HOG = (900, 60)


def delegated_tree():
    """A folder in which cgroups with a memory limit can be made, or why there is none."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if kind == "cgroup2":
            if "memory" not in Path(mount, "cgroup.controllers").read_text().split():
                return None, f"the memory controller is not in {mount}, but in a tree of version 1"
            probe = Path(mount, f"fairstalk-test-{uuid.uuid4().hex}")
            try:
                Path(mount, "cgroup.subtree_control").write_text("+memory")
                probe.mkdir()
            except OSError as exc:
                return None, f"no cgroup can be made in {mount}: {exc}"
            return probe, None
    return None, "no cgroup tree of version 2 is mounted"


@pytest.fixture(params=["cgroup", "proc"])
def unit(request):
    """A cgroup as systemd makes one for a service, gone after everything that ran in it; None to do without."""
    if request.param == "proc":
        yield None
        return
    unit, reason = delegated_tree()
    if reason:
        pytest.skip(reason)
    yield unit
    for folder in [*(path for path in unit.iterdir() if path.is_dir()), unit]:
        eventually(lambda: not still_there(folder), what=str(folder))


@pytest.fixture
def start(unit, celery_app, fairstalk):
    """`start(workers={…})`: a daemon that keeps the limits in this way."""

    def start(**sections):
        if unit is None:
            daemon = fairstalk(log={"format": "json"}, **sections)
            daemon.wait_log("memory limits are kept by looking at /proc: ")
            return daemon
        enter = ["/bin/sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', unit]
        daemon = fairstalk(log={"format": "json"}, before=enter, **sections)
        daemon.wait_log("memory limits are kept by cgroups below ")
        return daemon

    return start


def still_there(folder):
    """Whether a cgroup still is there after an attempt to remove it."""
    try:
        folder.rmdir()
    except OSError:
        return True
    return False


def outcomes(daemon, task_id):
    """What the log says became of a task."""
    return [r["outcome"] for r in daemon.records() if r.get("task_id") == task_id and "outcome" in r]


def the_letter(daemon, task_id, client):
    """The one dead letter, once everything is settled."""
    wait_settled(client)
    (letter,) = daemon.dead_letters()
    assert (letter["reason"], letter["id"], letter["deliveries"]) == ("oom", task_id, 0)
    return letter


def test_a_hog_is_killed_alone(start, client):
    """The neighbour ends as if nothing had been; the message is set aside at its first delivery, with its peak."""
    daemon = start(workers={"processes": 1, "concurrency": 2, "memory_limit": LIMIT})
    runners = set(daemon.pids("runner of"))
    neighbour = tasks.sleep.delay(4)
    hog = tasks.allocate.delay(*HOG)
    with pytest.raises(WorkerLostError, match=r"signal 9 \(SIGKILL\): memory limit of 250 MiB exceeded"):
        hog.get(timeout=PATIENCE)
    assert neighbour.get(timeout=PATIENCE) == 4
    letter = the_letter(daemon, hog.id, client)
    assert 240 * MIB < letter["memory_peak"] <= 1000 * MIB
    assert letter["detail"].startswith("memory limit of 250 MiB exceeded, ")
    assert outcomes(daemon, hog.id) == ["oom", "dead-letter"]
    (record,) = [r for r in daemon.records() if r.get("outcome") == "oom"]
    assert record["memory_peak"] == letter["memory_peak"]
    survivors = eventually(lambda: len(now := set(daemon.pids("runner of"))) == 2 and now)
    assert len(survivors & runners) == 1
    assert tasks.allocate.delay(10).get(timeout=PATIENCE) == 10 * MIB


def test_what_is_stored_is_what_celery_stores(start, stock_worker, client):
    """State, exception and keys are those a stock worker writes when the kernel kills its child."""
    daemon = start(workers={"processes": 1, "concurrency": 1, "memory_limit": LIMIT})
    hog = tasks.allocate.delay(*HOG)
    ours = eventually(lambda: stored(client, hog.id), PATIENCE)
    the_letter(daemon, hog.id, client)
    daemon.stop()
    with stock_worker("-c", "1"):
        killed = tasks.kill_self.delay()
        theirs = eventually(lambda: stored(client, killed.id), PATIENCE)
    assert set(ours) == set(theirs)
    for key in ("status", "traceback", "children"):
        assert (key, type(ours[key])) == (key, type(theirs[key]))
    assert ours["status"] == theirs["status"] == "FAILURE"
    assert {k: ours["result"][k] for k in ("exc_type", "exc_module")} == {
        k: theirs["result"][k] for k in ("exc_type", "exc_module")
    }
    start_of = "Worker exited prematurely: signal 9 (SIGKILL)"
    assert all(meta["result"]["exc_message"][0].startswith(start_of) for meta in (ours, theirs))


def test_others_are_told(start, client, tmp_path):
    """Errback and chord learn of it, as of any failure."""
    start(workers={"processes": 1, "concurrency": 2, "memory_limit": LIMIT})
    told = tmp_path / "told"
    tasks.allocate.apply_async(HOG, link_error=tasks.errback.s(str(told)))
    result = chord([tasks.add.s(1, 2), tasks.allocate.s(*HOG)])(tasks.total.s())
    meta = eventually(lambda: stored(client, result.id), PATIENCE)
    assert meta["result"]["exc_type"] == "ChordError" and "WorkerLostError" in meta["result"]["exc_message"][0]
    assert "WorkerLostError" in eventually(lambda: told.exists() and told.read_text(), PATIENCE)
    wait_settled(client)


def test_a_limit_of_its_own(start, client):
    """`[tasks."name"] memory_limit` counts for that task alone, also when one runner runs both."""
    own = {'tasks."bench.tasks.allocate"': {"memory_limit": "1GiB"}}
    daemon = start(workers={"processes": 1, "concurrency": 1, "memory_limit": LIMIT}, **own)
    assert tasks.allocate.delay(400, 0.5).get(timeout=PATIENCE) == 400 * MIB
    assert daemon.dead_letters() == []
    own = {'tasks."bench.tasks.allocate"': {"memory_limit": "100MiB"}}
    daemon.stop()
    other = start(workers={"processes": 1, "concurrency": 1}, **own)
    hog = tasks.allocate.delay(300, 60)
    with pytest.raises(WorkerLostError, match="memory limit of 100 MiB"):
        hog.get(timeout=PATIENCE)
    the_letter(other, hog.id, client)


def test_another_kill_is_no_outgrowing(start, client, tmp_path):
    """A task that is killed by somebody else is delivered again, limit or not."""
    daemon = start(workers={"processes": 1, "concurrency": 1, "memory_limit": LIMIT})
    once = tasks.kill_self.delay(unless=str(tmp_path / "once"))
    assert once.get(timeout=PATIENCE) == "alive"
    wait_settled(client)
    assert daemon.dead_letters() == []
    assert outcomes(daemon, once.id) == ["lost"]


def test_commands_and_what_they_start(start, celery_app, client):
    """A command's child counts and dies with it; no retry, `WorkerLostError`, and the daemon works on."""
    grow = "x = bytearray(900 << 20); x[::4096] = b'x' * len(x[::4096]); import time; time.sleep(60)"
    command = ["/bin/sh", "-c", f'"$0" -c "{grow}"; exit 3', sys.executable]
    sections = {'tasks."hog"': {"command": command, "memory_limit": "100MiB"}, 'tasks."echo"': {"command": ["/bin/cat"]}}
    daemon = start(workers={"processes": 1, "concurrency": 2}, python=None, **sections)
    hog = celery_app.send_task("hog")
    with pytest.raises(WorkerLostError, match="memory limit of 100 MiB exceeded"):
        hog.get(timeout=PATIENCE)
    letter = the_letter(daemon, hog.id, client)
    assert letter["memory_peak"] > 90 * MIB
    assert celery_app.send_task("echo", (1,)).get(timeout=PATIENCE)["args"] == [1]
    assert outcomes(daemon, hog.id) == ["oom", "dead-letter"]


def test_a_runner_that_keeps_much_is_replaced(celery_app, fairstalk, client):
    """`max_memory_per_runner` lets the task end, and puts a fresh runner in the place of the old one."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 1}, python={"max_memory_per_runner": "20MiB"})
    (old,) = daemon.pids("runner of")
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    eventually(lambda: (now := daemon.pids("runner of")) and now != [old])
    wait_settled(client)
    assert daemon.dead_letters() == []


def test_cgroups_go_with_what_was_in_them(start, unit):
    """One leaf for each runner, none for those that are gone, none after the end; without cgroups none at all."""
    daemon = start(workers={"processes": 1, "concurrency": 2, "memory_limit": LIMIT})
    if unit is None:
        assert not [pid for pid in daemon.pids("runner of") if "task-" in Path(f"/proc/{pid}/cgroup").read_text()]
        return

    def leaves():
        return {path.name for path in unit.iterdir() if path.name.startswith("task-")}

    before = leaves()
    assert len(before) == 2
    with pytest.raises(WorkerLostError):
        tasks.allocate.delay(*HOG).get(timeout=PATIENCE)
    eventually(lambda: len(now := leaves()) == 2 and len(now & before) == 1, what=lambda: str(leaves()))
    (worker,) = daemon.pids("worker 1")
    os.kill(worker, 9)
    eventually(lambda: len(now := leaves()) == 2 and not now & before, PATIENCE, lambda: str(leaves()))
    daemon.stop()
    assert not [path for path in unit.iterdir() if path.is_dir()]
