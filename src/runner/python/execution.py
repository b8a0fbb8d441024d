"""Runs one message through Celery's tracer, or records the end of one that can't be run."""

import json
from contextlib import contextmanager
from time import monotonic

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.app.task import Context, Task
from celery.exceptions import Ignore, InvalidTaskError, NotRegistered, Reject, Retry
from celery.utils.saferepr import saferepr
from celery.worker.request import Request
from celery import signals
from kombu.compression import decompress
from kombu.exceptions import OperationalError
from kombu.message import Message
from kombu.serialization import prepare_accept_content

from . import codec, frames, hooks


class Terminated(SystemExit):
    """SIGTERM, raised in the task so that its `finally` blocks run, as in Celery's children (`billiard.common`)."""


#: `json.loads` without its looks for other encodings than UTF-8, for options, and for blanks around: the worker has read
#: these already. Returns the value and where it ends.
scan_json = json.JSONDecoder().scan_once


class Delivery:
    """A message as the tracer wants it (`celery.worker.request.Request`, `celery.app.trace.fast_trace_task`)."""

    def __init__(self, headers, properties, content_type, body, hostname):
        request, _ = scan_json(headers.decode(), 0)
        properties, _ = scan_json(properties.decode(), 0)
        info = properties.get("delivery_info") or {}
        request["properties"] = properties
        request["reply_to"] = properties.get("reply_to")
        request["correlation_id"] = properties.get("correlation_id")
        request["hostname"] = hostname
        request["delivery_info"] = {
            "exchange": info.get("exchange"),
            "routing_key": info.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": info.get("redelivered", False),
        }
        self.request = request
        self.properties = properties
        self.id = request["id"]
        self.name = request["task"]
        self.content_type, self.content_encoding = content_type.decode().split("\0")
        compression = request.pop("compression", None)
        self.body = decompress(body, compression) if compression else body

    def decode(self, accept):
        """Arguments and embed; raises if the content type is refused or the body is not a task's."""
        args, kwargs, embed = codec.loads(self.body, self.content_type, self.content_encoding, accept)
        # The tracer would fail the task for these, or call it with the characters of a text.
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise InvalidTaskError("arguments must be a list, keyword arguments a mapping")
        self.request.update(embed or {})
        return args, kwargs


def innermost(exc):
    """The frame an exception was raised in, if it was raised."""
    place = exc.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place and place.tb_frame


class Execution:
    """Everything that stays the same from task to task in one runner."""

    def __init__(self, app, hostname):
        self.app = app
        self.hostname = hostname
        self.consumer = hooks.Consumer(app, hostname)
        self.accept = prepare_accept_content(app.conf.accept_content)
        transport = app.connection_for_write().transport
        self.broker_errors = (OperationalError, *transport.connection_errors, *transport.channel_errors)

    def run(self, delivery, show_result):
        """Run the task; returns (outcome, seconds, detail)."""
        try:
            args, kwargs = delivery.decode(self.accept)
        except Exception as exc:  # whatever a serializer may raise: the message is at fault, not we
            return self._refused(delivery, exc)
        if signals.task_received.receivers:
            signals.task_received.send(sender=self.consumer, request=self._request(delivery))
        delivery.request.update(args=args, kwargs=kwargs, is_eager=False)
        task = self.app.tasks[delivery.name]
        try:
            value, info, runtime, text = task.__trace__(delivery.id, args, kwargs, delivery.request)
        except Terminated:
            raise  # the worker hears of the end of this process and knows why
        except (SystemExit, KeyboardInterrupt) as exc:
            code = exc.code if isinstance(exc, SystemExit) else 1
            return self.record(delivery, lost("Worker exited prematurely: exitcode {}.".format(code)))
        except BaseException:  # the tracer lets MemoryError and its like through
            return self.record(delivery, ExceptionInfo())
        if info is None:
            return frames.SUCCESS, runtime, {"result": text} if show_result else None
        return self._ended(delivery, value, task, runtime)

    def _ended(self, delivery, einfo, task, runtime):
        exc = unwrapped(einfo)
        if isinstance(exc, Retry):
            when = exc.humanize()
            return frames.RETRY, runtime, {"exception": saferepr(exc.exc), "traceback": einfo.traceback, "when": when}
        if isinstance(exc, Ignore):
            return frames.IGNORED, runtime, None
        if isinstance(exc, Reject):
            if exc.requeue or self._not_sent(exc):
                return frames.REQUEUED, runtime, {"exception": saferepr(exc.reason)}
            _, _, detail = self.record(delivery, einfo)
            return frames.REJECTED, runtime, detail
        expected = isinstance(exc, tuple(task.throws or ()))
        return frames.FAILURE, runtime, {
            "exception": saferepr(exc), "traceback": einfo.traceback, "expected": expected}

    def _not_sent(self, exc):
        """Whether the task asked for a retry and the broker did not take it: Celery would drop the message then."""
        frame = innermost(exc)
        if frame is None or frame.f_code is not Task.retry.__code__:
            return False
        if isinstance(exc.reason, AttributeError):
            # What kombu 5.7 says when it finds its connection gone at a bad moment ('NoneType' object …). The same from
            # elsewhere, a signal's receiver for one, is a mistake that would come again for ever.
            raised = innermost(exc.reason)
            return raised is not None and raised.f_globals.get("__name__", "").partition(".")[0] in ("kombu", "redis")
        return isinstance(exc.reason, self.broker_errors)

    def record(self, delivery, einfo):
        """Record a failure as Celery's parent process does: result, chord, chain, errbacks, signals."""
        start = monotonic()
        with final(self.app.tasks[delivery.name]):
            self._request(delivery).on_failure(einfo)
        detail = {"exception": saferepr(unwrapped(einfo)), "traceback": einfo.traceback}
        return frames.FAILURE, monotonic() - start, detail

    def record_note(self, delivery, note):
        """Record the end of a message that didn't come to its end here; `note` says why."""
        why, text = note["why"], note["text"]
        if why == "unregistered":
            return self._unregistered(delivery)
        try:
            delivery.decode(self.accept)
        except Exception as exc:  # as in `run`
            return self._refused(delivery, exc)
        if why in ("expired", "revoked", "terminated"):
            return self._revoked(delivery, why, signum=int(text) if why == "terminated" else None)
        if why == "time-limit":
            return self.record(delivery, raised(TimeLimitExceeded(json.loads(text))))
        return self.record(delivery, lost(text))

    def _revoked(self, delivery, why, signum):
        """Too late, taken back, or ended from outside (`celery.worker.request.Request._announce_revoked`)."""
        request = self._request(delivery)
        task = self.app.tasks[delivery.name]
        task.backend.mark_as_revoked(
            delivery.id, why, request=request._context, store_result=request.store_errors)
        signals.task_revoked.send(
            sender=task, request=request._context, terminated=why == "terminated", signum=signum,
            expired=why == "expired")
        return frames.IGNORED, 0.0, None

    def _unregistered(self, delivery):
        """Unknown task (`Consumer.on_unknown_task`); unlike there, a chord it belongs to is told too."""
        try:
            delivery.decode(self.accept)
        except Exception:  # no arguments to be had: record it without
            pass
        exc = NotRegistered(delivery.name)
        self.app.backend.mark_as_failure(delivery.id, exc, request=Context(delivery.request))
        signals.task_unknown.send(
            sender=self.consumer, message=self._message(delivery), exc=exc, name=delivery.name, id=delivery.id)
        return frames.FAILURE, 0.0, {"exception": saferepr(exc)}

    def _refused(self, delivery, exc):
        """Its arguments can't be had (`Consumer.on_invalid_task`)."""
        signals.task_rejected.send(sender=self.consumer, message=self._message(delivery), exc=exc)
        return frames.REFUSED, 0.0, {"exception": saferepr(exc)}

    def _request(self, delivery):
        return Request(
            self._message(delivery), app=self.app, hostname=self.hostname, task=self.app.tasks[delivery.name])

    def _message(self, delivery):
        return Message(
            body=delivery.body, content_type=delivery.content_type, content_encoding=delivery.content_encoding,
            properties=delivery.properties, headers=delivery.request, accept=self.accept,
            delivery_info=delivery.request["delivery_info"])


@contextmanager
def final(task):
    """Nobody asks the task any more whether it wants its message back: the worker has decided that it ends here.

    Else Celery would not store the failure of a task with `reject_on_worker_lost`, say (`Request.on_failure`).
    """
    decided = {"acks_on_timeout": True, "reject_on_worker_lost": False, "retry_on_worker_lost": False}
    asked = {name: getattr(task, name) for name in decided if hasattr(task, name)}
    try:
        for name in asked:
            setattr(task, name, decided[name])
        yield
    finally:
        for name, value in asked.items():
            setattr(task, name, value)


def unwrapped(einfo):
    """The exception itself: billiard wraps it to carry its traceback along."""
    exc = einfo.exception
    return exc.exc if isinstance(exc, ExceptionWithTraceback) else exc


def raised(exc):
    """ExceptionInfo of an exception that was never raised."""
    try:
        raise exc
    except type(exc):
        return ExceptionInfo()


def lost(text):
    """What Celery's parent process records when a child dies under a task."""
    return raised(WorkerLostError(text))
