"""Fills queues with messages exactly as `apply_async` writes them, and checks that nothing of them is left over.

One message per user is made by a real `apply_async`; the others are its copies with ids of their own. That is some
twenty times as fast, and every byte but the ids is Celery's.
"""
import json
import uuid
from collections import Counter
from itertools import cycle, islice

from harness.waiting import eventually

USERS_PER_QUEUE = 5
CHUNK = 1000
PATIENCE = 120.0

# What of fairstalk's own holds no messages, or only names of those that are in `unacked`.
KNOWN_KEYS = ("fairstalk:claims:", "fairstalk:owners", "fairstalk:lane:", "fairstalk:tenants")
# Bytes that other keys may have for each task. A message has about a thousand.
TOLERATED = 30


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


def templates(client, task):
    """One message of each user, queue after queue in turn: (queue, text, task id, delivery tag)."""
    from imgbackend.routing import enqueue_task_to_user_queue

    queues = users_of_queues()
    made = []
    for users in zip(*queues.values(), strict=True):
        for queue, user in zip(queues, users, strict=True):
            sent = enqueue_task_to_user_queue(task, user, user_id=user)
            text = client.rpop(queue).decode()
            message = json.loads(text)
            assert message["headers"]["id"] == sent.id and client.llen(queue) == 0
            made.append((queue, text, sent.id, message["properties"]["delivery_tag"]))
    return made


def fill(client, task, count):
    """Put `count` messages into the queues, one queue after the other in turn. Returns the ids of the tasks."""
    made = templates(client, task)
    ids = []
    source = islice(cycle(made), count)
    while chunk := list(islice(source, CHUNK)):
        with client.pipeline(transaction=False) as pipeline:
            for queue, text, known_id, known_tag in chunk:
                ids.append(str(uuid.uuid4()))
                pipeline.lpush(queue, text.replace(known_id, ids[-1]).replace(known_tag, str(uuid.uuid4())))
            pipeline.execute()
    return ids


def remaining(client):
    """Messages not yet acknowledged."""
    in_lanes = int(client.hget("fairstalk:tenants", "waiting") or 0)
    return sum(client.llen(queue) for queue in users_of_queues()) + in_lanes + client.hlen("unacked")


def no_other_places(client, count):
    """Progress is read from queues and claims. A daemon that kept messages elsewhere would look too fast: notice."""
    unknown = [key for key in client.scan_iter("fairstalk:*", CHUNK) if not key.decode().startswith(KNOWN_KEYS)]
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
