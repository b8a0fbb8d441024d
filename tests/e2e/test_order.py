"""Of one user's tasks, the earlier one starts first: over slots, and over worker processes."""
import json
import re
import threading

import pytest

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

USERS = (1, 2, 3, 5, 8)
EACH = 24
ID = re.compile(rb'"id": "([0-9a-f-]{36})"')


class Claims:
    """Task ids in the order in which Redis gave them to workers, whoever asked.

    MONITOR shows the commands of a script too, in the one order in which the server executed them.
    """

    def __init__(self, redis):
        self.ids = []
        self._client = redis.client()
        self._monitor = self._client.monitor().__enter__()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        for command in self._monitor.listen():
            text = command["command"]
            if text.startswith("HSET unacked "):
                self.ids += re.findall(r'\\?"id\\?": \\?"([0-9a-f-]{36})', text)
            elif text == "PING over":
                return

    def close(self):
        """Everything up to now has been seen."""
        with self._client.connection_pool.connection_class(
            **self._client.connection_pool.connection_kwargs
        ) as connection:
            connection.send_command("PING", "over")
        self._thread.join()
        self._client.close()
