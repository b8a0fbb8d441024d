"""A monitor, as Flower is one: Celery's own event receiver and state, in a thread."""
import threading

from .waiting import eventually


class Monitor:
    """Hears all events of an application from `__enter__` on. `transport_options` are those of its broker connection."""

    def __init__(self, app, client, transport_options=None):
        self.app = app
        self.client = client
        self.options = transport_options
        #: Celery's picture of workers and tasks.
        self.state = app.events.State()
        #: All events in the order of their arrival.
        self.events = []
        #: Called with each event as it arrives.
        self.on_event = None
        self._receiver = None
        self._thread = threading.Thread(target=self._hear, name="monitor", daemon=True)

    def __enter__(self):
        before = self.client.pubsub_numpat()
        self._thread.start()
        eventually(lambda: self.client.pubsub_numpat() > before, what="the monitor listens")
        return self

    def __exit__(self, *exception):
        self._receiver.should_stop = True
        self._thread.join(10)

    def _hear(self):
        with self.app.connection_for_read(transport_options=self.options) as connection:
            self._receiver = self.app.events.Receiver(connection, handlers={"*": self._heard})
            self._receiver.capture(limit=None, timeout=None, wakeup=True)

    def _heard(self, event):
        self.events.append(event)
        self.state.event(dict(event))
        if self.on_event is not None:
            self.on_event(event)

    def of(self, *kinds, **fields):
        """Events of these types with these fields."""
        found = [event for event in list(self.events) if event["type"] in kinds]
        return [event for event in found if all(event.get(key) == value for key, value in fields.items())]

    def of_task(self, task_id):
        """Events of a task."""
        return [event for event in list(self.events) if event.get("uuid") == task_id]

    def story(self, task_id):
        """What happened to a task, in words without `task-`."""
        return [event["type"].removeprefix("task-") for event in self.of_task(task_id)]

    def wait(self, condition, patience=60):
        """Until this holds of the monitor; the failure shows all it has heard."""
        return eventually(lambda: condition(self), patience, lambda: "\n".join(map(str, self.events[-60:])))
