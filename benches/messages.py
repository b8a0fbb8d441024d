"""Fills queues with messages exactly as `apply_async` writes them, and checks that nothing of them is left over.

One message per user is made by a real `apply_async`; the others are its copies with ids of their own. That is some
twenty times as fast, and every byte but the ids is Celery's.
"""
import json
import hashlib
import math
import re
import uuid
from collections import Counter
from itertools import count as numbers
from itertools import cycle, islice

from harness.waiting import eventually

USERS_PER_QUEUE = 5
CHUNK = 1000
PATIENCE = 120.0

# Lanes belong to the workers that consume the same queues; the name is made of those of the queues.
FLEET = hashlib.md5("\0".join(sorted(f"queue_{number}" for number in range(20))).encode()).hexdigest()[:6]
# How many messages wait in fairstalk's lanes: a field of a hash.
IN_LANES = (f"fairstalk:{FLEET}:tenants", "waiting")
# What of fairstalk's own holds no messages, or only names of those that are in `unacked`, or those counted by IN_LANES.
KNOWN_KEYS = re.compile(f"fairstalk:(claims:|owners|{FLEET}:)")
# Bytes that other keys may have for each task. A message has about a thousand.
TOLERATED = 30


def users_beside(user, shares):
    """Users after `user` without end, whose queue is the same as that user's, or is not."""
    from imgbackend.routing import get_queue_for_user

    queue = get_queue_for_user(user)
    return (other for other in numbers(user + 1) if (get_queue_for_user(other) == queue) == shares)


def users_of_queues():
    """The first few users of each queue: queue -> users."""
    from imgbackend.routing import NUM_QUEUES, get_queue_for_user

    queues = {f"queue_{number}": [] for number in range(NUM_QUEUES)}
    user = 0
    while any(len(users) < USERS_PER_QUEUE for users in queues.values()):
        user += 1
        users = queues[get_queue_for_user(user)]
        if len(users) < USERS_PER_QUEUE:
            users.append(user)
    return queues


class Template:
    """A message of a real `apply_async` for one user, and copies of it with ids of their own.

    To be made before a worker runs, which would take the message.
    """

    def __init__(self, client, task, user, **kwargs):
        from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

        self.keep(client, get_queue_for_user(user), enqueue_task_to_user_queue(task, user, user_id=user, **kwargs))

    def keep(self, client, queue, sent):
        """Take the message that was just sent out of its queue."""
        self.queue, self.id = queue, sent.id
        self.text = client.lpop(self.queue).decode()
        message = json.loads(self.text)
        assert message["headers"]["id"] == sent.id
        self.tag = message["properties"]["delivery_tag"]

    def copy(self):
        """Id of the task, and the message."""
        task = str(uuid.uuid4())
        return task, self.text.replace(self.id, task).replace(self.tag, str(uuid.uuid4()))


def fill(client, task, count, users=None):
    """Put `count` messages into the queues, one user after the other in turn. Returns the ids of the tasks.

    By default those of all queues, queue after queue in turn.
    """
    users = users or [user for users in zip(*users_of_queues().values(), strict=True) for user in users]
    made = [Template(client, task, user) for user in users]
    ids = []
    source = islice(cycle(made), count)
    while chunk := list(islice(source, CHUNK)):
        with client.pipeline(transaction=False) as pipeline:
            for template in chunk:
                task_id, text = template.copy()
                ids.append(task_id)
                pipeline.lpush(template.queue, text)
            pipeline.execute()
    return ids


def flood(client, template, count):
    """Put `count` copies into the template's queue, many in one call."""
    for start in range(0, count, CHUNK):
        client.lpush(template.queue, *(template.copy()[1] for _ in range(min(CHUNK, count - start))))


def remaining(client):
    """Messages not yet acknowledged."""
    lists = sum(client.llen(queue) for queue in users_of_queues())
    return lists + int(client.hget(*IN_LANES) or 0) + client.hlen("unacked")


def no_other_places(client, count):
    """Progress is read from queues and claims. A daemon that kept messages elsewhere would look too fast: notice."""
    unknown = [key for key in client.scan_iter("fairstalk:*", CHUNK) if not KNOWN_KEYS.match(key.decode())]
    held = {key.decode(): client.memory_usage(key) or 0 for key in unknown}
    assert sum(held.values()) <= TOLERATED * count, f"may hold messages that this benchmark doesn't count: {held}"


def check_empty(client):
    """Every message was acknowledged, and none went elsewhere."""
    assert remaining(client) == 0 and client.zcard("unacked_index") == 0
    assert client.zcard("fairstalk:dead") == 0 and client.zcard("fairstalk:delayed") == 0


def check_results(client, ids):
    """A SUCCESS for each of these tasks, and no other result. Celery acknowledges before: the last ones may be to come."""
    keys = [f"celery-task-meta-{task}" for task in ids]
    if ids:
        eventually(lambda: client.exists(keys[-1]) and client.exists(*keys) == len(keys), PATIENCE, "results of all tasks")
    states = Counter()
    for start in range(0, len(keys), CHUNK):
        states.update(json.loads(value)["status"] if value else None for value in client.mget(keys[start : start + CHUNK]))
    expected = {"SUCCESS": len(ids)} if ids else {}
    assert states == expected, states
    stored = sum(1 for _ in client.scan_iter("celery-task-meta-*", CHUNK))
    assert stored == len(ids), f"{stored} results of {len(ids)} tasks"


def warm_up(client, count):
    """Have the worker run some tasks of real `apply_async` calls, and wait until it has nothing to do."""
    from bench.tasks import noop_result
    from imgbackend.routing import enqueue_task_to_user_queue

    ids = [enqueue_task_to_user_queue(noop_result, user, user_id=user).id for user in range(count)]
    eventually(lambda: remaining(client) == 0, PATIENCE, "tasks to warm up")
    check_results(client, ids)


def percentile(values, share):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
