"""The stage of these tests: a worker of one kind, the application, and the Redis between them."""
import json
import sys
from pathlib import Path

import celery
import pytest
from harness.daemon import Fairstalk, clean_environment, merged
from harness.processes import ProcessUnderTest
from harness.waiting import eventually

APPLICATION = Path(__file__).parent / "app"
PATIENCE = 20

sys.path.insert(0, str(APPLICATION))


def since(*version):
    """Mark what Celery does not do before this version under a worker of its own either."""
    return pytest.mark.skipif(celery.VERSION < version, reason="this Celery does not do it itself")


class Stage:
    """A worker of one kind, the application in this process, and the Redis between them."""

    def __init__(self, kind, redis, directory, module):
        self.kind = kind
        self.redis = redis
        self.client = redis.client(decode_responses=True)
        self.directory = directory
        self.slots = getattr(module, "SLOTS", 4)
        self.settings = getattr(module, "SETTINGS", {})
        self.sections = getattr(module, "SECTIONS", {})
        self.environment = {
            "COMPAT_BROKER": redis.url,
            "COMPAT_NOTES": redis.url,
            "COMPAT_SETTINGS": json.dumps(self.settings),
            "COMPAT_PLUGIN": getattr(module, "PLUGIN", ""),
            "PYTHONPATH": str(APPLICATION),
            **getattr(module, "ENVIRONMENT", {}),
        }
        if "COMPAT_DATA" in self.environment:
            self.environment["COMPAT_DATA"] = str(directory)
        self.app = None
        self.worker = None

    def start(self):
        """Start it and wait until it is ready."""
        if self.kind == "celery":
            command = [sys.executable, "-m", "celery", "-A", "compat", "worker", "-l", "INFO", "-c", str(self.slots)]
            environment = clean_environment(**self.environment)
            self.worker = ProcessUnderTest(command, self.directory / "celery.log", environment, APPLICATION)
            self.worker.wait_log(r"celery@\S+ ready\.$", timeout=PATIENCE)
            return self
        base = {
            "broker": {"url": self.redis.url},
            "queues": {"names": ["celery"]},
            "workers": {"processes": 1, "concurrency": self.slots},
            "python": {
                "app": "compat",
                "directory": APPLICATION,
                "interpreter": sys.executable,
                "env": self.environment,
            },
        }
        self.worker = Fairstalk(self.directory / "fairstalk", merged(base, self.sections)).wait_ready()
        return self

    def connect(self):
        """Make the application in this process the current one."""
        import compat

        self.app = compat.create({**self.environment, "COMPAT_PLUGIN": ""})
        self.app.set_current()
        self.app.set_default()
        self.app.loader.import_default_modules()
        return self

    def stop(self):
        """Stop the worker as an operator does, and wait for its end."""
        return self.worker.stop()

    def notes(self, key, count):
        """What tasks have written down under this key, once it is so many."""
        eventually(lambda: self.client.llen(key) >= count, PATIENCE, lambda: f"{key}: {self.client.lrange(key, 0, -1)}")
        return self.client.lrange(key, 0, -1)

    def close(self):
        """End everything."""
        try:
            if self.app is not None:
                disconnect(self.app)
            self.client.close()
        finally:
            if isinstance(self.worker, Fairstalk):
                self.worker.close()
            elif self.worker is not None:
                self.worker.clear_away()


def disconnect(app):
    """Close what the application holds open in this process."""
    from kombu import pools

    consumer = getattr(app.backend, "result_consumer", None)
    if consumer is not None:
        consumer.stop()
        # Else a result that is garbage-collected later unsubscribes, and for that connects again, for many seconds.
        getattr(consumer, "subscribed_to", set()).clear()
        consumer._pubsub = None
    app.close()
    pools.reset()
