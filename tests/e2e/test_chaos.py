"""A campaign of kills, and a checker that would see what it is there to see."""
import os
import random
import re
import subprocess
import sys

import pytest
from chaos import campaign, verdict
from chaos.load import Sent
from chaos.verdict import Blow
from harness import ROOT
from harness.daemon import clean_environment

#: Kills in each of the two large campaigns; CHAOS_KILLS makes them longer.
KILLS = int(os.environ.get("CHAOS_KILLS", "50"))


@pytest.mark.parametrize(
    ("kills", "daemons", "stock"),
    [(KILLS, 1, 0), (KILLS, 2, 0), (KILLS // 2, 1, 1)],
    ids=["one daemon", "two daemons", "mixed fleet"],
)
def test_a_campaign(tmp_path, kills, daemons, stock):
    """The first two are a hundred kills; in the third a stock worker is killed too, and may lose its own.

    Stops come on top of that and don't count. A process of its own: the campaign's Celery application shares
    connections with nobody.
    """
    seed = random.randrange(2**32)
    options = ["--kills", kills, "--seed", seed, "--daemons", daemons, "--stock", stock, "--keep", tmp_path]
    command = [sys.executable, "-m", "chaos", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT / "tests", env=clean_environment(), capture_output=True, text=True)
    again = f"again: make chaos KILLS={kills} SEED={seed} DAEMONS={daemons} STOCK={stock}"
    print(again)
    assert done.returncode == 0, f"{again}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    counted = re.search(r" blows, (\d+) of them kills, in", done.stdout)
    assert counted and int(counted[1]) >= kills, done.stdout[-4000:]
    assert "\n0 findings" in done.stdout
    ahead = re.search(r"(\d+) blows fell on a fleet that had claimed ahead", done.stdout)
    assert ahead and (stock or int(ahead[1]) > 0), done.stdout[-4000:]  # a stock worker may happen to take the short ones


def test_only_kills_count_as_kills():
    """A hundred of them are a hundred SIGKILLs."""
    assert campaign.kills({"KILL runner": 3, "KILL redis": 2, "STOP runner": 7, "STOP tree": 1}) == 5
    assert 2 * KILLS >= 100


def line(event, time, pid=1, task="t", tag="m", n=1, redelivered=False):
    """One line of the ledger."""
    return {"event": event, "task": task, "tag": tag, "retries": 0, "redelivered": redelivered, "user": 1, "n": n,
            "pid": pid, "node": "worker1-a@host", "time": time}


def test_the_checker_sees_a_loss():
    """Sent for sure, started, not ended; and of a chain the first that is missing."""
    task, after = Sent(1, 1, first=True), Sent(1, 2, first=False)
    after.parent = task
    sent = [task, after]
    lines = [line("start", 1.0, task=task.id)]
    assert verdict.missing(sent, lines) == [], "nobody was told that it is in Redis"
    task.sure = after.sure = True
    assert verdict.missing(sent, lines) == [task]
    assert task.id in verdict.lost([task])[0]
    lines.append(line("end", 2.0, task=task.id))
    assert verdict.missing(sent, lines) == [after]
    assert verdict.missing(sent, [*lines, line("end", 3.0, task=after.id)]) == []


@pytest.mark.parametrize(
    ("lines", "ours"),
    [
        ([], False),
        ([("start", "worker1-a@host")], True),
        ([("start", "worker1-a@host"), ("retry", "worker1-a@host")], False),
        ([("start", "stock0@host")], False),
        ([("start", "stock0@host"), ("start", "worker1-a@host")], True),
    ],
)
def test_the_checker_knows_whose_loss_it_is(lines, ours):
    """Whoever had it last; a message without a line can only have been in a stock worker."""
    task = Sent(1, 1, first=True)
    written = [{**line(event, 1.0, task=task.id), "node": node} for event, node in lines]
    assert verdict.whose_loss([task], written) == (([task], []) if ours else ([], [task]))


def test_the_checker_sees_twins():
    """The earlier run still writes when the later one has begun; other messages don't matter."""
    lines = [line("start", 1.0), line("start", 2.0, pid=2), line("tick", 2.5), line("end", 3.0, pid=2)]
    assert len(verdict.twins(verdict.read(lines))) == 1
    assert verdict.twins(verdict.read([line("start", 1.0), line("start", 2.0, pid=2), line("end", 3.0, pid=2)])) == []
    assert verdict.twins(verdict.read([line("start", 1.0), line("start", 2.0, pid=2, tag="o"), line("end", 3.0)])) == []


@pytest.mark.parametrize(
    ("blow", "excused"),
    [
        (None, False),
        (Blow("KILL runner", 1.5, 1.5, "a", "worker1-a@host", 1), True),
        (Blow("KILL runner", 1.5, 1.5, "a", "worker1-a@host", 7), False),
        (Blow("KILL worker", 1.5, 1.5, "a", "worker1-a@host"), True),
        (Blow("KILL worker", 1.5, 1.5, "a", "worker2-a@host"), False),
        (Blow("KILL tree", 1.5, 1.5, "b"), False),
        (Blow("KILL redis", 1.5, 1.7), True),
        (Blow("KILL redis", -2.0, -1.0), False),
        (Blow("KILL tree", 8.0, 8.0, "a"), False),
    ],
    ids=lambda value: getattr(value, "what", value),
)
def test_the_checker_knows_who_was_struck(blow, excused):
    """A second run is right only if the first one's process was killed, or Redis, before it was settled."""
    runs = verdict.read([line("start", 1.0), line("end", 1.9), line("start", 9.0, pid=2), line("end", 9.1, pid=2)])
    assert (verdict.unexcused(runs, [blow] if blow else []) == []) == excused


@pytest.mark.parametrize(
    ("node", "blow", "ours"),
    [
        ("worker1-a@host", None, True),
        ("worker1-a@host", Blow("KILL worker", 2.5, 2.5, "a", "worker2-a@host"), True),
        ("worker1-a@host", Blow("KILL worker", 2.5, 2.5, "a", "worker1-a@host"), False),
        ("stock0@host", None, False),
    ],
)
def test_the_checker_knows_whose_result_is_missing(node, blow, ours):
    """A task that had ended, came back, and was taken by a stock worker that was killed before it noted its claim."""
    task = Sent(1, 1, first=True)
    runs = verdict.read([{**line(event, at, task=task.id), "node": node} for event, at in (("start", 1.0), ("end", 2.0))])
    blows = [blow] if blow else []
    assert verdict.whose_result([task], runs, blows) == (([task], []) if ours else ([], [task]))


def test_the_checker_sees_who_overtakes():
    """Who was at something else when a later one started; not if it came back, nor if it was held up."""
    sent = [Sent(1, n, first=True) for n in range(4)]
    for task in sent:
        task.sure = True
    order = [1, 2, 3, 0]
    lines = [line("start", float(at), task=sent[n].id, tag=str(n), n=n) for at, n in enumerate(order)]
    assert len(verdict.overtaken(sent, verdict.read(lines), [])) == 1
    stopped = Blow("STOP worker", 1.0, 2.5, "a", "worker1-a@host")
    assert verdict.overtaken(sent, verdict.read(lines), [stopped]) == []
    elsewhere = Blow("STOP worker", 1.0, 2.5, "a", "worker2-a@host")
    assert len(verdict.overtaken(sent, verdict.read(lines), [elsewhere])) == 1
    waited = [*lines[:3], {**lines[3], "pid": 2}]
    assert verdict.overtaken(sent, verdict.read(waited), []) == [], "its process may have taken it before all others"
    lines[-1]["redelivered"] = True
    assert verdict.overtaken(sent, verdict.read(lines), []) == []
