"""One campaign: load, blows, the end of everything, and what is to be said of it."""
import random
import time
from collections import Counter
from typing import NamedTuple

from harness.waiting import eventually

from . import application, verdict
from .blows import Blows
from .load import BULK_USERS, USERS, BulkProducer, Producer, queue_of
from .stage import Stage

#: Between two blows, seconds, on average.
PAUSE = 0.5

#: At the end: tasks count as lost when nothing has happened for so long. More than a lease and all waits before restarts.
PATIENCE = 30.0


class Report(NamedTuple):
    """What a campaign came to."""

    seed: int
    blows: Counter
    sent: int
    runs: int
    repeated: int
    seconds: float
    findings: list
    #: How many blows fell while messages were claimed ahead of a slot, and how many messages that were.
    ahead: tuple = (0, 0)
    #: Tasks that stock workers took with them.
    lost_by_stock: int = 0

    def __str__(self):
        struck = ", ".join(f"{count} x {what}" for what, count in sorted(self.blows.items()))
        lines = [
            f"seed {self.seed}: {self.blows.total()} blows, {kills(self.blows)} of them kills, in {self.seconds:.0f} s: {struck}",
            f"{self.sent} tasks sent, {self.runs} deliveries, {self.repeated} of them repeated",
            "{} blows fell on a fleet that had claimed ahead of its slots, {} messages together".format(*self.ahead),
            *([f"{self.lost_by_stock} tasks lost by stock workers"] if self.lost_by_stock else []),
            *(f"  {finding}" for finding in self.findings),
            f"{len(self.findings)} findings",
        ]
        return "\n".join(lines)


def kills(blows):
    """How many of the blows, counted by name, were a SIGKILL: a process that is only stopped goes on."""
    return sum(count for what, count in blows.items() if what.startswith("KILL "))


def run(directory, rounds, seed, daemons=None, say=lambda text: None, stock=0, least_kills=0):
    """Strike `rounds` times, and on until there were so many kills; whatever the checker finds is in the report.

    `stock` Celery workers serve the same queues.
    """
    dice = random.Random(seed)
    daemons = daemons or dice.choice((1, 2))
    began = time.monotonic()
    stage = Stage(directory, daemons, stock)
    try:
        for daemon in stage.daemons.values():
            daemon.wait_ready()
        shares = [(Producer, USERS[::2]), (Producer, USERS[1::2]), (BulkProducer, BULK_USERS)]
        producers = [
            kind(dice.random(), users, lambda users=users: sum(stage.ledger.ended_by[user] for user in users))
            for kind, users in shares
        ]
        for producer in producers:
            producer.start()
        blows, ahead = Blows(stage, dice), []
        while len(blows.struck) < rounds or kills(Counter(blow.what for blow in blows.struck)) < least_kills:
            time.sleep(dice.uniform(0, 2 * PAUSE))
            stage.ledger.read()
            assert all(producer.is_alive() for producer in producers), "without load there is nothing to see"
            claimed = stage.ahead()
            blow = blows.strike()
            if blow:
                ahead += [claimed] if claimed else []
                whom = " ".join(str(part) for part in (blow.node or blow.daemon, blow.pid) if part)
                say(f"{len(blows.struck)} at {blow.time:.3f}: {blow.what} {whom}; {len(stage.ledger.ended)} ended")
        blows.settle_down()
        sent = finish(stage, producers)
        findings, theirs = judge(stage, sent, blows.struck)
        runs = verdict.read(stage.ledger.read())
        struck = Counter(blow.what for blow in blows.struck)
        seconds = time.monotonic() - began
        repeated, ahead = verdict.repeated(runs), (len(ahead), sum(ahead))
        return Report(seed, struck, len(sent), len(runs), repeated, seconds, findings, ahead, len(theirs))
    finally:
        stage.close()


def finish(stage, producers):
    """No more load: wait for the rest."""
    for producer in producers:
        producer.stopped.set()
    for producer in producers:
        producer.join()
    sent = [task for producer in producers for task in producer.sent]
    for worker in stage.stock.values():
        worker.clear_away()  # what these hold comes back when the visibility timeout is over
    sure = {task.id for task in sent if task.sure}
    stage.wait_quiet(lambda: sure <= stage.ledger.ended, PATIENCE)
    # Who was killed between the last line of a task and its result: it runs again, after a stock worker's death much later.
    stage.wait_quiet(lambda: not without_result(stage, sent), PATIENCE)
    return sent


def judge(stage, sent, blows):
    """Everything that is not as promised, and the tasks that are the stock workers' losses."""
    lines = list(stage.ledger.read())
    runs = verdict.read(lines)
    ours, theirs, unanswered = verdict.missing(sent, lines), [], without_result(stage, sent)
    if stage.stock:
        ours, theirs = verdict.whose_loss(ours, lines)
        unanswered, taken = verdict.whose_result(unanswered, runs, blows)
        theirs += taken
    findings = verdict.lost(ours) + verdict.twins(runs) + verdict.unexcused(runs, blows)
    kills = sum(blow.what == "KILL stock" for blow in blows) + len(stage.stock)  # each once more, at the end
    if len(theirs) > kills:
        findings.append(f"{len(theirs)} losses of stock workers, that were killed {kills} times")
    if not stage.stock:  # these prefetch, and a user's tasks are in order in each worker only
        findings += verdict.overtaken(sent, runs, blows)
    findings += [f"no result: task {task.id} of user {task.user} (n {task.n})" for task in unanswered]
    for code in stage.stop():
        if code != 0:
            findings.append(f"a daemon ended with {code}")
    findings += [f"left in Redis: {key}" for key in stage.leftovers()]
    findings += [f"left behind: {process}" for process in stage.left_behind()]
    return findings + stock_finds(stage), theirs


def without_result(stage, sent):
    """Tasks that have ended and whose caller would not get their number."""
    ended = [task for task in sent if task.id in stage.ledger.ended]
    results = stage.results([task.id for task in ended])
    return [task for task, text in zip(ended, results) if f'"status": "SUCCESS", "result": {task.n},'.encode() not in text]


def stock_finds(stage):
    """What a stock worker on the same queues still runs: it should be nothing but the task each queue now gets."""
    before = len(stage.ledger.read())
    worker = stage.stock_worker()
    try:
        probes = {application.work.apply_async((user, 0), queue=queue_of(user)).id for user in USERS}
        eventually(lambda: stage.ledger.read() and probes <= stage.ledger.ended, 60, worker.log)
        strangers = {line["task"] for line in stage.ledger.read()[before:]} - probes
        return [f"left for a stock worker: task {task}" for task in strangers]
    finally:
        worker.clear_away()
