"""Leaves out what Celery has Django close before and after each task while there is nothing to close.

Its fixup goes through all connections to databases and caches around each task, which was a third of what a short task takes;
mostly none of them is open. What is open is closed by Celery's own code, and so is everything where something is not as
it is known to be: another engine than Django's own, a pool, a connection put in by hand, a future version.
"""

import os
import weakref

from celery import signals
from celery.app import trace

#: What the fixup's methods may speak of. If one says more, it does more than is known here.
KNOWN = {
    "on_task_prerun": {"getattr", "request", "close_database"},
    "on_task_postrun": {"getattr", "request", "close_database", "close_cache"},
    "close_database": {"db_reuse_max", "_close_database", "_db_recycles"},
    "close_cache": {"_cache", "close_caches", "TypeError", "AttributeError"},
    "_close_database": {
        "_db", "connections", "all", "close", "close_if_unusable_or_obsolete", "TypeError", "_is_prefork", "_settings",
        "DATABASES", "get", "alias", "hasattr", "contextlib", "suppress", "KeyError", "close_pool", "interface_errors",
        "DatabaseError", "str"},
}


def take(app):
    """Take it in this process, if the application uses Django and all is as it is known to be."""
    fixup = fixup_of(app)
    if fixup is None:
        return
    try:
        idle = Idle()
    except Exception:  # Unknown, or whatever comes of asking another Django: it is left to Celery
        return
    for name, signal, method, nothing_to_do in (
            ("send_prerun", signals.task_prerun, fixup.on_task_prerun, idle.databases),
            ("send_postrun", signals.task_postrun, fixup.on_task_postrun, idle.all)):
        if getattr(trace, name, None) == signal.send:
            setattr(trace, name, unless_idle(signal, method, nothing_to_do))


def fixup_of(app):
    """Django's part of Celery, if it is in use and as it is known to be."""
    for fixup in app._fixups:
        own = getattr(fixup, "worker_fixup", None)
        if type(own).__name__ == "DjangoWorkerFixup" and type(own).__module__ == "celery.fixups.django":
            methods = {name: getattr(type(own), name, None) for name in KNOWN}
            known = all(
                method is not None and name not in vars(own) and names_in(method) <= KNOWN[name]
                for name, method in methods.items())
            return own if known and not own.db_reuse_max else None
    return None


def names_in(function):
    """Names a plain function speaks of; more than anybody knows if it is something else."""
    code = getattr(function, "__code__", None)
    return {"?"} if code is None else set(code.co_names)


def unless_idle(signal, method, nothing_to_do):
    """What sends a signal, unless only this method hears it and would find nothing to do."""
    send = signal.send

    def send_unless_idle(sender, **named):
        receivers = signal.receivers
        if len(receivers) == 1 and receivers[0] is alone and nothing_to_do():
            return []
        return send(sender=sender, **named)

    alone = next((entry for entry in signal.receivers if heard_by(entry) == method), None)
    return send_unless_idle


def heard_by(entry):
    """The receiver behind one of Celery's entries, which hold most of them weakly."""
    receiver = entry[1]
    return receiver() if isinstance(receiver, weakref.ReferenceType) else receiver


class Unknown(Exception):
    """Something is not as it is known to be."""


class Idle:
    """Tells whether nothing that Django would close is open."""

    def __init__(self):
        import django
        from django.core.cache import caches
        from django.core.cache.backends.base import BaseCache
        from django.db import connections

        self._home = os.path.dirname(django.__file__) + os.sep
        self._close_nothing = BaseCache.close
        self._wrappers = []
        #: Whether there is something of which it can't be told by looking at it.
        self._unknown = {connections: False, caches: False}
        self._watch(connections, self._note_wrapper)
        self._watch(caches, self._note_cache)
        self._connections, self._caches = connections, caches

    def databases(self):
        """No connection to a database is open, in whatever thread or context."""
        if self._unknown[self._connections]:
            return False
        for reference in self._wrappers:
            wrapper = reference()
            if wrapper is None:
                self._wrappers = [other for other in self._wrappers if other() is not None]
            elif wrapper.connection is not None or wrapper.run_on_commit:
                return False
        return True

    def all(self):
        """Nor has a cache anything to close."""
        return not self._unknown[self._caches] and self.databases()

    def _watch(self, handler, closes_nothing):
        """Have all looked at that is made by one of Django's handlers of connections, or put into it by hand."""
        kind, make, unknown = type(handler), getattr(handler, "create_connection", None), self._unknown
        if make is None or "create_connection" in vars(handler) or not kind.__module__.startswith("django."):
            raise Unknown
        put = kind.__setitem__

        def create_connection(alias):
            made = make(alias)
            unknown[handler] |= not closes_nothing(made)
            return made

        def __setitem__(self, alias, connection):
            unknown[handler] = True  # wherever it is from
            put(self, alias, connection)

        handler.create_connection = create_connection
        kind.__setitem__ = __setitem__
        for made in handler.all(initialized_only=True):
            unknown[handler] |= not closes_nothing(made)

    def _note_wrapper(self, wrapper):
        """Looks at it from now on; false if its engine isn't Django's own, or keeps a pool, which has to be closed too."""
        self._wrappers.append(weakref.ref(wrapper))
        classes = type(wrapper).__mro__
        codes = [getattr(vars(base)["close"], "__code__", None) for base in classes if "close" in vars(base)]
        own = all(code is not None and code.co_filename.startswith(self._home) for code in codes)
        known = own and type(wrapper).__module__.startswith("django.") and "close" not in vars(wrapper)
        return known and not wrapper.settings_dict.get("OPTIONS", {}).get("pool")

    def _note_cache(self, cache):
        """Most have nothing to close: they leave that method as Django's base class has it, empty."""
        return type(cache).close is self._close_nothing and "close" not in vars(cache)
