"""Tasks without a task: `fairstalk.noop` per second, beside what Redis can do of the same.

What can be done at most is measured by repeating a recording: the very calls one worker made of Redis while it drained these
messages (claims, looks, filings, acknowledgements; the scripts with all their arguments), all at once through one connection, with
nobody who waits for an answer or looks at it. Messages and database are the same as in the recording, so every answer is, too.
"""
import socket
import statistics
import threading
import time

import drain
from harness.proxy import Proxy
from messages import IN_LANES, check_empty, fill, users_of_queues
from probes import Gauge
from systems import Daemon, stage

NOOP = "fairstalk.noop"
#: Something that it would run, since there is no application.
COMMAND_ONLY = {"python": None, 'tasks."bench.true"': {"command": ["/bin/true"]}}
PIECE = 1 << 16


class Recorder(Proxy):
    """Keeps what each connection says to Redis."""

    def __init__(self, port):
        super().__init__(port)
        self.said = {}

    def heard(self, way, pair, data):
        """A piece has come."""
        if way == "request":
            self.said.setdefault(pair, bytearray()).extend(data)


def noop(user_id=None):
    """For the producer: the task is fairstalk's."""


def measure(app, sizes, say):
    """The ceiling, and the daemon with one and two workers, by turns; medians."""
    task = app.task(noop, name=NOOP, ignore_result=True)
    daemons = {"2x2": Daemon(2, 2, **COMMAND_ONLY), "1x4": Daemon(1, 4, **COMMAND_ONLY)}
    runs, ceiling = {key: [] for key in daemons}, []
    for repetition in range(sizes.repeat):
        ceiling.append(repeated(app, task, sizes.builtin))
        for key, daemon in daemons.items():
            runs[key].append(drain.one_run(app, daemon, task, sizes.builtin))
        told = ", ".join(f"{key} {of[-1]['rate']:.0f}/s" for key, of in runs.items())
        say(f"builtin {repetition + 1}/{sizes.repeat}: at most {ceiling[-1]:.0f}/s, {told}")
    most = statistics.median(ceiling)
    figures = {key: drain.summary(of, sizes.builtin) for key, of in runs.items()}
    for figure in figures.values():
        figure["ratio"] = figure["rate"] / most
    return {"tasks": sizes.builtin, "ceiling": {"rate": most, "rates": ceiling}, **figures}


def repeated(app, task, count):
    """Records, and returns messages per second when it is repeated."""
    with stage(Daemon(1, 4, **COMMAND_ONLY), app) as setting:
        fill(setting.client, task, count)
        queues = {queue: setting.client.lrange(queue, 0, -1) for queue in users_of_queues()}
        recorder = Recorder(setting.redis.port)
        setting.system.sections = {**COMMAND_ONLY, "broker": {"url": recorder.url}}
        setting.start()
        gauge = Gauge(setting.redis.socket, queues, ["unacked"], [IN_LANES])
        while gauge.read()[1] > 0:
            assert setting.worker.popen.poll() is None, setting.worker.log()
            time.sleep(drain.LOOK_EVERY)
        gauge.close()
        setting.worker.close()
        setting.worker = None
        recorder.close()
        check_empty(setting.client)
        calls = bytes(max(recorder.said.values(), key=len))
        setting.client.flushall()
        setting.client.script_flush()
        for queue, messages in queues.items():
            for start in range(0, len(messages), 1000):
                setting.client.rpush(queue, *messages[start : start + 1000])
        taken = answered(setting.redis.socket, calls)
        check_empty(setting.client)
    return count / taken


def answered(path, calls):
    """Seconds until all these calls are answered."""
    end = b"the end of it"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        begin = time.monotonic()
        sender = threading.Thread(target=connection.sendall, args=(calls + b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(end), end),))
        sender.start()
        last = b""
        while end not in last:
            piece = connection.recv(PIECE)
            assert piece, "Redis has hung up"
            last = last[-len(end) :] + piece
        sender.join()
        return time.monotonic() - begin
