"""Messages in Redis, as kombu writes them and as fairstalk keeps them."""
import base64
import hashlib
import json
import uuid

from .waiting import eventually

TASK_META = "celery-task-meta-"
#: Seconds for which a worker's claims are its own without a sign of life (`src/broker/lease.rs`).
LEASE = 7


def message(task, args=(), kwargs=None, queue="queue_0", headers=None, properties=None, body=None, **envelope):
    """One message of protocol 2, byte for byte what a producer pushes, with whatever a test wants to be different."""
    task_id = str(uuid.uuid4())
    if body is None:
        body = json.dumps([list(args), kwargs or {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    if isinstance(body, str):
        body = body.encode()
    text = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": task_id, "root_id": task_id, "retries": 0, **(headers or {})},
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            **(properties or {}),
        },
    }
    return json.dumps({**text, **envelope}).encode()


def waiting(client, queue):
    """The messages of a queue, in the order in which they will be taken."""
    return [json.loads(raw) for raw in reversed(client.lrange(queue, 0, -1))]


def of_fleet(name, queues=tuple(f"queue_{number}" for number in range(20))):
    """A key that belongs to the workers which consume these queues."""
    fleet = hashlib.md5("\0".join(sorted(queues)).encode()).hexdigest()[:6]
    return f"fairstalk:{fleet}:{name}"


def unclaimed(client):
    """How many messages wait: in the queues, or in lanes of fairstalk."""
    queues = sum(client.llen(f"queue_{number}") for number in range(20))
    return queues + sum(int(client.hget(key, "waiting") or 0) for key in client.scan_iter("fairstalk:*:tenants"))


def call_of(envelope):
    """(args, kwargs) of a message."""
    args, kwargs, _ = json.loads(base64.b64decode(envelope["body"]))
    return args, kwargs


def wait_settled(client):
    """Wait until nothing is claimed, by kombu's books and by fairstalk's."""

    def claimed():
        held = [key for owner in client.keys("fairstalk:claims:*") for key in client.hkeys(owner) if key != b"lease"]
        return [client.hkeys("unacked"), client.zrange("unacked_index", 0, -1), held]

    eventually(lambda: not any(claimed()), what=lambda: f"nothing claimed; there is {claimed()}")


def stored(client, task_id):
    """The stored result of a task, or None."""
    text = client.get(f"{TASK_META}{task_id}")
    return text and json.loads(text)
