"""Takes the running task's own result from Celery's Redis backend and gives it to the worker.

Celery encodes the result; the worker writes and publishes it in the same atomic step as the
acknowledgement. Through redis-py the same costs a GET and a MULTI/EXEC each, some 0.6 ms a task.
Every other backend, and every other key, is left to Celery.
"""

from celery import states

from . import codec

try:
    from celery.backends.redis import RedisBackend
except ImportError:  # redis-py is not installed: another backend is in use
    RedisBackend = None


def database(app, server):
    """Number of the Redis database with the results if the worker can write them, else None.

    It can where the backend is Celery's own for Redis, storing as that class does, on the broker's server.
    `server` is `host:port`, the path of a unix socket, or the name of a primary and the sentinels that know it.
    """
    backend = app.backend
    if RedisBackend is None or not isinstance(backend, RedisBackend):
        return None
    own = type(backend)
    if any(getattr(own, name) is not getattr(RedisBackend, name, None)
           for name in ("_store_result", "_set_with_state", "set", "_set")):
        return None
    params = backend.connparams
    where = params.get("path") or "{}:{}".format(params.get("host"), params.get("port"))
    if params.get("hosts"):
        name = (app.conf.result_backend_transport_options or {}).get("master_name")
        hosts = sorted("{}:{}".format(sentinel.get("host"), sentinel.get("port")) for sentinel in params["hosts"])
        where = "{} of {}".format(name, ", ".join(hosts))
    if where.replace("localhost", "127.0.0.1") != server.replace("localhost", "127.0.0.1"):
        return None
    return int(params.get("db") or 0)


class Collector:
    """Stands in for the backend's `_store_result` in a runner."""

    def __init__(self, backend, send_now):
        self._backend = backend
        self._original = backend._store_result
        self._original_get = backend.get
        self._encode = codec.encoder(backend)
        self._send_now = send_now
        self._task_id = None
        self._own_key = None
        self.stores = []
        backend._store_result = self._store_result
        backend.get = self._get

    def begin(self, task_id):
        """From here on results of `task_id` are collected."""
        self._task_id = task_id
        self._own_key = None
        self.stores = []

    def end(self):
        """Results to store with the settlement."""
        stores, self.stores, self._task_id, self._own_key = self.stores, [], None, None
        return stores

    def _store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        if task_id != self._task_id or looked_up_at_once(request, state):
            return self._original(task_id, result, state, traceback=traceback, request=request, **kwargs)
        backend = self._backend
        meta = backend._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        value = self._encode(meta)
        expires = backend.expires
        if state == states.FAILURE:
            expires = getattr(backend, "failure_expires", expires)
        store = (as_bytes(backend.get_key_for_task(task_id)), as_bytes(value), int((expires or 0) * 1000))
        if state in states.READY_STATES or state == states.RETRY:
            self._own_key = store[0]
            self.stores = [store]
        else:
            self._send_now(store)
        return result

    def _get(self, key):
        """A task, or a signal handler, that reads its own result sees the one not yet written."""
        if self.stores and as_bytes(key) == self._own_key:
            return self.stores[0][1]
        return self._original_get(key)


def looked_up_at_once(request, state):
    """Whether Celery tells others of this end right after storing it: a chord's body, the rest of a chain, errbacks.

    They must find it in the backend, so for these it is stored before anything else happens.
    """
    if getattr(request, "chord", None):
        return state in states.READY_STATES
    return state == states.FAILURE and bool(getattr(request, "chain", None) or getattr(request, "errbacks", None))


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()
