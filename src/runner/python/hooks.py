"""Celery's signals that its worker sends outside of the tracer, at the places where an application expects them.

The zygote is to them what `celery worker`'s main process is, a runner what a process of its pool is. What the tracer
sends itself (`task_prerun` to `task_internal_error`) is not here.
"""

import os
import signal as unix
import sys

from celery import signals

#: How `worker_shutting_down` describes a stop of fairstalk: as Celery does its own at SIGTERM.
WARM = {"sig": "SIGTERM", "how": "Warm", "exitcode": 0}


#: What receivers of `worker_process_shutdown` and of `worker_shutdown` may take, in seconds. At a stop of the daemon the
#: former have less (`RUNNERS_WITHIN` of drain.rs).
RUNNER_SECONDS = 10
ZYGOTE_SECONDS = 5


class Consumer:
    """Sender of the signals that come from the consumer in Celery: `worker_ready`, `task_received` and others."""

    def __init__(self, app, hostname, controller=None):
        self.app = app
        self.hostname = hostname
        self.controller = controller
        self.pid = os.getpid()

    def __str__(self):
        return self.hostname


class Life:
    """The signals of the zygote's life, each of them once."""

    def __init__(self, app, info):
        self._app = app
        self._info = info
        self._stopping = False

    def ready(self):
        """Workers are ready to run tasks."""
        signals.worker_ready.send(sender=Consumer(self._app, self._info.hostname, self._info))

    def stopping(self):
        """A stop has begun; what runs may finish."""
        if not self._stopping:
            self._stopping = True
            signals.worker_shutting_down.send(sender=self._info.hostname, **WARM)

    def gone(self):
        """No task runs any more, and this process is about to end."""
        end_within(ZYGOTE_SECONDS)
        self.stopping()
        signals.worker_shutdown.send(sender=self._info)
        flush_sentry()


def before_fork(info):
    """A runner is about to be forked."""
    if signals.worker_before_create_process.receivers:
        signals.worker_before_create_process.send(sender=info)


def after_fork():
    """Drop connections the application has opened before, as a child of Celery's pool does when it begins."""
    from billiard import util

    util._run_after_forkers()


def runner_ends(exitcode):
    """A runner has run its last task. What the application does now must not keep the process for ever."""
    from celery.concurrency.prefork import process_destructor

    end_within(RUNNER_SECONDS)
    process_destructor(os.getpid(), exitcode)
    flush_sentry()


def end_within(seconds):
    """Have the kernel end this process if it is still there then, whatever it is doing."""
    unix.signal(unix.SIGALRM, unix.SIG_DFL)
    unix.alarm(seconds)


def flush_sentry():
    """Have Sentry send what it still holds: its thread does not outlive this process.

    Under Celery its integration does this at the end of the pool's loop, which isn't run here.
    """
    sentry = sys.modules.get("sentry_sdk")
    if sentry is not None:
        sentry.flush()
