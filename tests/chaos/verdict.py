"""Reads the ledger: what was lost, what ran twice and had no right to, what ran beside itself, what overtook.

Pure: it gets what was sent, the lines, and the blows, and says what is wrong.

A *run* is one delivery: the lines of one process about one message, known by its `delivery_tag`. Two messages of one task
are no twins: Celery itself makes a second one when it has to repeat a push whose answer was lost, or when a task that
had sent its successor is killed and runs again.
"""
from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import accumulate
from typing import NamedTuple

#: From the last line of a task to its settlement, seconds, when nothing stands in the way; generous on a busy machine.
SETTLING = 2.0

#: From the death of a process to that of those that die with it, seconds: a runner may get one more task meanwhile.
DYING = 1.0


class Blow(NamedTuple):
    """What was done to whom, and until when it was felt (the time of `CONT`, or when Redis answered again)."""

    what: str
    time: float
    until: float
    daemon: str | None = None
    node: str | None = None
    pid: int | None = None

    def hits(self, run):
        """Whether this run's process, or what stands above it, was struck; Redis stands above all."""
        return (
            (self.daemon is None or run.daemon == self.daemon)
            and (self.node is None or run.node == self.node)
            and (self.pid is None or run.pid == self.pid)
        )


class Run:
    """One delivery of one message."""

    def __init__(self, line, free_since):
        #: When its process last wrote something before: it can't have taken this message earlier.
        self.free_since = free_since
        self.task, self.tag, self.retries = line["task"], line["tag"], line["retries"]
        self.user, self.n, self.redelivered = line["user"], line["n"], line["redelivered"]
        self.pid, self.node, self.start = line["pid"], line["node"], line["time"]
        self.daemon = self.node.partition("@")[0].rpartition("-")[2]
        self.last = self.start
        self.end = None

    @property
    def stock(self):
        """Whether a stock Celery worker ran it."""
        return self.daemon.startswith("stock")

    def __str__(self):
        return f"task {self.task} of user {self.user} (n {self.n}, retry {self.retries}) in {self.pid} of {self.node}"


def read(lines):
    """All runs, in the order in which they started; with each, the runs of the same message before it."""
    runs, open_runs, last = [], {}, {}
    for line in lines:
        key = (line["tag"], line["pid"])
        if line["event"] == "start":
            open_runs[key] = Run(line, last.get(line["pid"], float("-inf")))
            runs.append(open_runs[key])
        run = open_runs[key]
        run.last = last[line["pid"]] = line["time"]
        if line["event"] in ("end", "retry"):
            run.end = line["event"]
    return runs


def missing(sent, lines):
    """Tasks that are in Redis for sure, or their chain is and all before them have ended, and that never ended."""
    ended = {line["task"] for line in lines if line["event"] == "end"}
    return [
        task for task in sent
        if task.sure and task.id not in ended and (task.parent is None or task.parent.id in ended)
    ]


def lost(tasks):
    """What is to be said of tasks that are missing."""
    return [f"lost: task {task.id} of user {task.user} (n {task.n})" for task in tasks]


def whose_result(tasks, runs, blows):
    """Tasks of the mixed fleet that have ended and have no result, as (fairstalk's, the stock workers').

    Whoever was struck after the last line of a task and before its result runs it again. If a stock worker takes it then, and is
    killed before its claim is written down, that is another of its losses (`whose_loss`); who sees nothing but the
    ledger sees a task that has ended.
    """
    last = {run.task: run for run in runs}

    def is_ours(task):
        run = last[task.id]
        return not run.stock and not struck(run, blows)

    return [task for task in tasks if is_ours(task)], [task for task in tasks if not is_ours(task)]


def whose_loss(tasks, lines):
    """Tasks of the mixed fleet that are missing, as (fairstalk's, the stock workers').

    Whoever wrote the last line of a task had it last, unless that line says that it has ended in a retry: then the retry was
    taken by somebody who has written nothing. That can only be a stock worker that was killed between popping a message
    and writing its claim down (`kombu/transport/redis.py`: BRPOP, then `QoS.append`); fairstalk does both in one script.
    So there may not be more losses than kills of stock workers.
    """
    last = {line["task"]: line for line in lines}

    def is_ours(task):
        line = last.get(task.id)
        return line is not None and line["event"] != "retry" and not line["node"].startswith("stock")

    return [task for task in tasks if is_ours(task)], [task for task in tasks if not is_ours(task)]


def twins(runs):
    """Runs of one message at the same time: the earlier one still writes after the later one has started."""
    by_tag = defaultdict(list)
    for run in runs:
        by_tag[run.tag].append(run)
    return [
        f"twin: {one}, and {other} {one.last - other.start:.3f} s before it ended"
        for same in by_tag.values()
        for place, one in enumerate(same)
        for other in same[place + 1 :]
        if one.last > other.start and not one.stock
    ]


def unexcused(runs, blows):
    """Runs of a message that had run, though nothing had struck the earlier run before it was settled."""
    before, found = {}, []
    for run in runs:
        earlier = before.get(run.tag)
        before[run.tag] = run
        if earlier is None or earlier.stock:
            continue
        if not struck(earlier, blows, run.start):
            found.append(f"twice without a reason: {earlier}, again in {run.pid} of {run.node}")
    return found


def struck(run, blows, before=float("inf")):
    """Whether something above this run was struck, before that time, when it may not have been settled."""
    near = [blow for blow in blows if blow.hits(run) and blow.until + DYING >= run.start and blow.time <= before]
    # Settling waits while its worker or Redis stands still, so one blow may hold it up and the next one undo it.
    reach = run.last + SETTLING
    for blow in sorted(near, key=lambda blow: blow.time):
        reach = max(reach, blow.until + SETTLING) if blow.time <= reach else reach
    return any(blow.time <= reach for blow in near)


def repeated(runs):
    """How many deliveries were not the first of their message."""
    return len(runs) - len({run.tag for run in runs})


def overtaken(sent, runs, blows):
    """Tasks of a user that were taken after a later one had started: their process was still at something else then.

    The times of two starts say less: a process may have to wait for a processor between taking a message and writing that
    it has started, and behind it other processes get through many short tasks.

    Not counted are tasks that came back from an earlier delivery, later links of chains, and a start that was held up by
    a blow to its own process, worker, daemon or Redis.
    """
    in_order = {task.id for task in sent if task.first and task.sure}
    first = {}
    for run in runs:
        if run.task in in_order and run.retries == 0:
            first.setdefault(run.task, run)
    blows = sorted(blows, key=lambda blow: blow.time)
    times = [blow.time for blow in blows]
    longest = max((blow.until - blow.time for blow in blows), default=0.0)

    def held_up(run):
        near = blows[
            bisect_left(times, run.start - SETTLING - longest) : bisect_right(times, run.start + SETTLING)
        ]
        return run.redelivered or any(blow.hits(run) and run.start <= blow.until + SETTLING for blow in near)

    by_user, found = defaultdict(list), []
    for run in sorted(first.values(), key=lambda run: run.start):
        if not held_up(run):
            by_user[run.user].append(run)
    for started in by_user.values():
        starts = [run.start for run in started]
        latest = list(accumulate(started, lambda one, other: max(one, other, key=lambda run: run.n)))
        for run in started:
            before = bisect_right(starts, run.free_since)
            if before and latest[before - 1].n > run.n:
                found.append(f"overtaken: {run} by {latest[before - 1]}")
    return found
