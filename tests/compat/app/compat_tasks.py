"""Tasks, for whichever application is the current one."""
import logging
import os
import signal
import time

import redis
from celery import chord, group, shared_task
from celery.exceptions import Ignore, Reject


class Broken(Exception):
    """An exception of the application's own, which a caller gets as it was raised."""


def note(key, value):
    """Write something down where the test finds it."""
    with redis.Redis.from_url(os.environ["COMPAT_NOTES"]) as client:
        client.rpush(key, value)


@shared_task
def add(x, y):
    return x + y


@shared_task(bind=True)
def traced(self):
    """How it is run, and of which tasks this process has Celery's tracer."""
    ready = {name for name, task in self.app.tasks.items() if task.__trace__.__module__ == "celery.app.trace"}
    return {"eager": self.request.is_eager, "ready": sorted(ready)}


@shared_task
def strange():
    """Return what no serializer takes."""
    return object()


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task
def same(value=None, **named):
    return named or value


@shared_task
def collect(values, *more):
    return [values, *more]


@shared_task
def fail(message="broken"):
    raise Broken(message)


@shared_task(throws=(KeyError,))
def expected():
    raise KeyError("expected")


@shared_task
def log(text):
    logging.getLogger(__name__).warning("logged %s", text)
    print("printed", text)


@shared_task
def hang():
    time.sleep(600)


@shared_task
def die():
    """Take the process down, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
def told(request, exc, traceback, key):
    """An errback that knows what happened."""
    note(key, f"{request.id} {exc!r}")


@shared_task
def told_id(task_id, key):
    """An errback of the old kind."""
    note(key, task_id)


@shared_task
def noted(value, key):
    note(key, value)
    return value


@shared_task(bind=True, max_retries=2)
def try_again(self, times, countdown=0):
    if self.request.retries < times:
        raise self.retry(countdown=countdown, exc=Broken(f"try {self.request.retries}"))
    return self.request.retries


@shared_task(bind=True)
def replaced(self, what, *args):
    """Have another signature take the place of this task."""
    raise self.replace(
        {
            "task": lambda: add.s(*args),
            "chain": lambda: add.s(*args) | add.s(100),
            "group": lambda: group(add.s(value, 1) for value in args),
            "chord": lambda: chord([add.s(value, 1) for value in args], total.s()),
            "fail": lambda: fail.s("replacement"),
            "again": lambda: replaced.s("task", *args),
        }[what]()
    )


@shared_task(bind=True)
def grown(self, *args):
    """Add tasks to the chord this one is in."""
    self.add_to_chord(add.s(*args))
    return 0


@shared_task(bind=True)
def about(self, *args):
    """What a task can see of its own request."""
    request = self.request
    return {
        "id": request.id,
        "args": list(request.args),
        "root": request.root_id,
        "parent": request.parent_id,
        "group": request.group,
        "group_index": request.group_index,
        "stamps": request.stamps,
        "stamped_headers": request.stamped_headers,
        "headers": request.headers and {key: value for key, value in request.headers.items() if key.startswith("x-")} or None,
        "retries": request.retries,
        "eager": request.is_eager,
        "hostname": request.hostname,
        "correlation": request.correlation_id,
        "routing_key": request.delivery_info["routing_key"],
    }


@shared_task(bind=True)
def states(self, path):
    """Set a state of its own and keep it until the file is there."""
    self.update_state(state="HALFWAY", meta={"done": 5, "of": 10})
    await_file(path)
    return "done"


@shared_task(bind=True)
def wait_for(self, path):
    """Run until the file is there."""
    await_file(path)
    return os.getpid()


@shared_task(bind=True)
def ignored(self, state):
    """Keep a state of its own for good."""
    self.update_state(state=state, meta="kept")
    raise Ignore()


@shared_task
def rejected():
    raise Reject("no use", requeue=False)


@shared_task(ignore_result=True)
def unwanted(value):
    return value


def await_file(path):
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)
