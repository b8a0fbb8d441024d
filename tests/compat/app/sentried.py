"""An application that tells Sentry of its failures; what would go there goes into Redis.

Sent with a delay, by a thread, as the real transport does: what is not flushed at the end is lost.
"""
import json
import os

import sentry_sdk
from celery import signals
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

import compat_tasks


class Notes(Transport):
    """Holds everything back until it is flushed."""

    def __init__(self, options=None):
        super().__init__(options)
        self.held = []

    def capture_envelope(self, envelope):
        self.held += [item.payload.json for item in envelope.items if item.payload.json]

    def flush(self, timeout, callback=None):
        held, self.held = self.held, []
        for event in held:
            compat_tasks.note("sentry", json.dumps({**event, "pid": os.getpid()}, default=str))


def install(app):
    signals.celeryd_init.connect(init, weak=False)


def init(**kwargs):
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", transport=Notes, send_default_pii=True, traces_sample_rate=1.0, default_integrations=False,
        integrations=[CeleryIntegration(monitor_beat_tasks=False)],
    )
