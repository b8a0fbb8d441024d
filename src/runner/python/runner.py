"""One slot of one worker: executes one task at a time."""

import json
import os
import signal
import sys
import traceback

# The zygote imports this module, so that what it needs is in memory once and not in each runner.
from billiard.pool import soft_timeout_sighandler
from celery.concurrency.prefork import process_initializer

from . import frames, hooks, logs, results, shortcuts
from .inbox import Inbox
from .output import Output
from .execution import Delivery, Execution, Terminated
from .process import set_title


def start(app, sock, output, inbox, table, order, results_db):
    """Entry of a freshly forked runner; never returns. `order` is what the worker asked the zygote for."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(null)
        set_title("fairstalk: runner of {}".format(order["node"]))
        run_in_long_stretches()
        inbox = Inbox(inbox, table, order["slot"], order["tasks_max"])
        serve(app, frames.Channel(sock), inbox, Output(output), order, results_db)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        pass  # the worker is gone; the zygote kills us anyway
    except Terminated as exc:
        # What had to be tidied up is; the wait status is to tell how this process came to its end.
        hooks.runner_ends(exc.code)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        sys.__stdout__.flush()
        sys.__stderr__.flush()
        os._exit(status)


def run_in_long_stretches():
    """Ask the kernel not to let this process interrupt others whenever it wakes up (sched(7), SCHED_BATCH).

    Whatever else runs on the machine, a web server above all, goes first; and runners that don't interrupt each
    other find more of their data still in the processor's caches. What a task starts is scheduled as usual. Not allowed
    in every sandbox, and then done without.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    except OSError:
        pass


def serve(app, channel, inbox, output, order, results_db):
    hooks.after_fork()
    with shortcuts.tracers_on_demand():
        process_initializer(app, order["node"])
    logs.attach(channel)
    signal.signal(signal.SIGUSR1, soft_timeout_sighandler)
    signal.signal(signal.SIGTERM, terminate)
    shortcuts.take(app)
    collector = NoCollector()
    if results_db is not None:
        collector = results.Collector(app.backend, lambda store: channel.send(frames.STORE, frames.pack_store(store)))
    execution = Execution(app, order["node"])
    channel.send(frames.READY)
    while True:
        frame = inbox.take() or channel.receive()
        if frame is None:
            break
        kind, sequence, headers, properties, content_type, note, body = frame
        if kind == frames.POKE:
            continue
        inbox.began(sequence)
        channel.sequence = sequence
        try:
            delivery = Delivery(headers, properties, content_type, body, order["node"])
        except Exception as exc:  # a compression this Python doesn't know, say
            inbox.ended()
            channel.send(frames.DONE, *frames.pack_done(frames.REFUSED, 0.0, [], {"exception": repr(exc)}))
            continue
        collector.begin(delivery.id)
        if kind == frames.RUN:
            outcome, runtime, detail = execution.run(delivery, bool(note))
        else:
            outcome, runtime, detail = execution.record_note(delivery, json.loads(note))
        inbox.ended()
        output.wait_until_read()
        channel.send(frames.DONE, *frames.pack_done(outcome, runtime, collector.end(), detail))
    hooks.runner_ends(0)


def terminate(signum, frame):
    """Handler of SIGTERM; a second one ends the process wherever it is."""
    signal.signal(signum, signal.SIG_DFL)
    raise Terminated(-(256 - signum))


class NoCollector:
    """Results are stored by Celery's own backend code."""

    def begin(self, task_id):
        pass

    def end(self):
        return []
