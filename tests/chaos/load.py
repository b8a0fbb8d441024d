"""Celery producers: several users, tasks of mixed length, retries with a countdown, chains; and many short tasks at once."""
import random
import threading
import time
import uuid
from hashlib import md5

from celery import chain
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from . import application

USERS = range(1, 9)

#: These send many short tasks at once, so many that workers claim them before a slot is free.
BULK_USERS = range(9, 13)

#: Tasks sent and not ended, over all its users, at which a producer waits: enough that something always runs.
AHEAD = 60

#: The same for short tasks.
BULK_AHEAD = 300

#: Short tasks that are sent at once.
BULK = (100, 300)

#: Between two lots of them, seconds, at most.
BULK_PAUSE = 1.0


def queue_of(user):
    """Queue of a user, by the rule of `fairstalk route`."""
    return application.QUEUES[int(md5(str(user).encode()).hexdigest(), 16) % len(application.QUEUES)]


class Sent:
    """One task that was sent. `sure`: its producer was told that it is in Redis."""

    def __init__(self, user, n, first):
        self.id = str(uuid.uuid4())
        self.user = user
        self.n = n
        self.first = first
        self.sure = False
        #: The task before it in its chain: as often as that one ran, this one may have been sent.
        self.parent = None


class Producer(threading.Thread):
    """Sends tasks of some users until told to stop, each user's in order."""

    ahead = AHEAD

    def __init__(self, seed, users, ended):
        super().__init__(name=f"producer of {users}", daemon=True)
        self.random = random.Random(seed)
        self.users = users
        self.ended = ended
        self.sent = []
        #: How many of them are sure.
        self.told = 0
        self.stopped = threading.Event()
        self.count = dict.fromkeys(users, 0)

    def run(self):
        while not self.stopped.is_set():
            if self.told - self.ended() > self.ahead:
                time.sleep(0.01)
                continue
            self.next()

    def next(self):
        """Something for one of the users."""
        self.send(self.random.choice(self.users))

    def signature(self, user, first=True):
        """One task of a user."""
        self.count[user] += 1
        sent = Sent(user, self.count[user], first)
        seconds = self.random.choices((0.0, 0.05, 0.3, 1.5), (5, 5, 3, 1))[0] * self.random.random()
        retries = self.random.choices((0, 1, 2), (8, 1, 1))[0]
        task = application.work.si(user, sent.n, seconds, retries, self.random.random())
        return sent, task.set(task_id=sent.id, queue=queue_of(user))

    def send(self, user):
        """One task or a chain of a few. What fails may have been sent or not: nobody knows."""
        length = self.random.choices((1, 2, 3), (10, 1, 1))[0]
        links = [self.signature(user, first=not place) for place in range(length)]
        for (before, _), (after, _) in zip(links, links[1:]):
            after.parent = before
        self.push(chain(*(task for _, task in links)) if length > 1 else links[0][1], [sent for sent, _ in links])

    def push(self, task, links):
        """Whether it is in Redis for sure."""
        self.sent += links
        try:
            task.apply_async()
        except (OperationalError, RedisError, OSError, AttributeError):  # the last: kombu 5.7, at a bad moment
            return False
        for sent in links:
            sent.sure = True
        self.told += len(links)
        return True


class BulkProducer(Producer):
    """Sends a lot of short tasks of one user, then waits a while."""

    ahead = BULK_AHEAD

    def next(self):
        user = self.random.choice(self.users)
        for _ in range(self.random.randint(*BULK)):
            self.count[user] += 1
            sent = Sent(user, self.count[user], first=True)
            task = application.work.si(user, sent.n).set(task_id=sent.id, queue=queue_of(user))
            if not self.push(task, [sent]) or self.stopped.is_set():
                break
        self.stopped.wait(self.random.uniform(0, BULK_PAUSE))
