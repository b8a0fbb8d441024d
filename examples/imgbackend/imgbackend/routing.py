"""Which queue a user's tasks go to.

The queues are a fixed number shared by all users: a user's tasks always land in the same one,
so one user's bulk job occupies one queue and leaves the other nineteen alone.
"""
from hashlib import md5

NUM_QUEUES = 20
DEFAULT_QUEUE = "queue_0"


def get_queue_for_user(user_id, num_queues=NUM_QUEUES):
    """Name of the queue of this user; the same in every process and on every host."""
    digest = md5(str(user_id).encode()).hexdigest()
    return f"queue_{int(digest, 16) % num_queues}"


def queue_of(user_id):
    """As `get_queue_for_user`, with the default queue for work that belongs to nobody."""
    return DEFAULT_QUEUE if user_id is None else get_queue_for_user(user_id)


def enqueue_task_to_user_queue(task, user_id, /, *args, **kwargs):
    """Call `task` with the given arguments on the queue of `user_id` (None: the default queue).

    The first two are by position only, so that a task may have a `user_id` of its own among its keywords.
    """
    return task.apply_async(args=args, kwargs=kwargs, queue=queue_of(user_id))
