"""Small tasks, each with one behaviour of a Celery task that a worker has to get right.

Where a task takes `user_id`, it does nothing with it but say whose work it is.
"""
import json
import logging
import os
import signal
import subprocess
import time

from celery import shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

task_logger = get_task_logger(__name__)
module_logger = logging.getLogger(__name__)


class BenchError(Exception):
    """An exception class of the application, with more than one argument."""

    def __init__(self, reason, code):
        super().__init__(reason, code)
        self.reason = reason
        self.code = code


def append_line(path, **fields):
    """Append one JSON object as one line, in a single write, so that lines of many processes never mix."""
    line = json.dumps({**fields, "pid": os.getpid(), "time": time.time()}) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def made(path):
    """Make a file; False if it is there already. Of many callers one gets True."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    return True


@shared_task(ignore_result=True)
def noop(user_id=None):
    """Nothing, and no result: what a task costs at the least."""


@shared_task
def noop_result(user_id=None):
    """Nothing, with a stored result."""
    return user_id


@shared_task(ignore_result=True)
def slow_noop(user_id=None, seconds=0.1):
    """A task that waits for somebody else, as most do: holds a slot, not a core."""
    time.sleep(seconds)


@shared_task
def add(x, y):
    """The sum of two numbers."""
    return x + y


@shared_task
def total(numbers):
    """The sum of a list: the body of a chord."""
    return sum(numbers)


@shared_task
def sleep(seconds, user_id=None):
    """Wait, then tell how long."""
    time.sleep(seconds)
    return seconds


@shared_task
def sleep_softly(seconds):
    """As `sleep`, but a soft time limit is caught and answered."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "soft time limit"
    return seconds


@shared_task
def fail(message):
    """Fail with a built-in exception."""
    raise ValueError(message)


@shared_task
def fail_loudly(message, user_id=None):
    """Fail with a word of warning."""
    task_logger.warning("about to fail: %s", message)
    raise ValueError(message)


@shared_task
def fail_custom(reason, code):
    """Fail with an exception of the application."""
    raise BenchError(reason, code)


@shared_task
def allocate(mebibytes, seconds=0.0):
    """Touch so much memory and hold it for a while."""
    size = mebibytes * 1024 * 1024
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(seconds)
    return len(held)


@shared_task
def log_lines(n):
    """Say each of `n` numbers in every way a task can: loggers, print, the bare descriptor, a subprocess."""
    for number in range(n):
        task_logger.info("task logger %d", number)
        module_logger.warning("module logger %d", number)
        print(f"print {number}")
        os.write(1, f"descriptor {number}\n".encode())
        subprocess.run(["echo", f"subprocess {number}"], check=True)
    return n


@shared_task(bind=True, ignore_result=True)
def say_own_id(self):
    """Write its id past all logging, as a C library would."""
    os.write(2, f"{self.request.id}\n".encode())


@shared_task(bind=True)
def flaky(self, times, countdown=0.1):
    """Ask for a retry `times` times, then succeed and tell the number of retries."""
    if self.request.retries < times:
        raise self.retry(countdown=countdown, max_retries=times)
    return self.request.retries


@shared_task(bind=True)
def hopeless(self, retries=1, countdown=0.1):
    """Fail each time, until the retries are used up."""
    try:
        raise BenchError("hopeless", self.request.retries)
    except BenchError as error:
        raise self.retry(exc=error, countdown=countdown, max_retries=retries) from error


@shared_task(bind=True)
def report_progress(self, steps, seconds=0.0):
    """Store a state of its own at each step."""
    for step in range(1, steps + 1):
        self.update_state(state="PROGRESS", meta={"done": step, "of": steps})
        time.sleep(seconds)
    return steps


@shared_task(bind=True)
def ignore(self):
    """Leave a state of its own behind and no result."""
    self.update_state(state="KEPT", meta={"by": "the task"})
    raise Ignore()


@shared_task(acks_late=True)
def reject(requeue=False, unless=None):
    """Refuse the message; late acknowledgement, because a stock worker has nothing left to refuse otherwise.

    With `unless`, only if that file is missing, and it is made first: one refusal.
    """
    if unless is not None and not made(unless):
        return "accepted"
    raise Reject("refused by the task", requeue=requeue)


@shared_task(bind=True)
def record(self, user_id, n, path, seconds=0.0):
    """Keep a ledger: one line at the start and one at the end, to check order, twins and losses."""
    fields = {"task": self.request.id, "user": user_id, "n": n, "retries": self.request.retries}
    append_line(path, event="start", **fields)
    time.sleep(seconds)
    append_line(path, event="end", **fields)
    return n


@shared_task
def kill_self(signum=9, unless=None, say=()):
    """Send a signal to the own process. With `unless`, only if that file is missing, and it is made first: one death.

    What there is to `say` is said before, past Python's buffers.
    """
    for line in say:
        os.write(2, f"{line}\n".encode())
    if unless is not None and not made(unless):
        return "alive"
    os.kill(os.getpid(), signum)
    return "survived"


def misbehave(self, path, how):
    """One line for each run. The first run doesn't come to a good end: it dies, fails, hangs or refuses its message."""
    append_line(path, event="start", task=self.request.id)
    if not made(f"{path}.{self.request.id}"):
        return "done"
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail":
        raise ValueError("failed")
    if how == "hang":
        time.sleep(60)
    raise Reject("refused", requeue=True)


#: The same task with everything a task can declare about the acknowledgement of its messages.
DECLARED = {
    name: shared_task(name=f"bench.tasks.declared_{name}", bind=True, **declaration)(misbehave)
    for name, declaration in {
        "early": {},
        "late": {"acks_late": True},
        "late_reject": {"acks_late": True, "reject_on_worker_lost": True},
        "late_unacked": {"acks_late": True, "acks_on_failure_or_timeout": False},
    }.items()
}


@shared_task
def errback(request, error, traceback, path):
    """What `link_error` calls: write down whose failure was reported."""
    append_line(path, event="errback", task=request.id, error=repr(error))
