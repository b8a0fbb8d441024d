"""Writes down which signals are sent at all, and when a request object is made; listens to nothing."""
from celery.utils.dispatch import Signal
from celery.worker.request import Request

import compat_tasks


def install(app):
    Signal.send = noting(Signal.send, lambda signal: signal.name)
    Request.__init__ = noting(Request.__init__, lambda request: "request")


def noting(function, name):
    def noted(self, *args, **kwargs):
        compat_tasks.note("made", name(self))
        return function(self, *args, **kwargs)

    return noted
