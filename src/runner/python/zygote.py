"""Imports the application once, then forks runners on request; runs no task itself.

A worker connects to the listening socket and keeps the connection. It sends one JSON line for each runner it
wants, with its descriptors: the runner's end of a socket pair, the write end of a pipe for its output, and what it shares with
others (`inbox.py`). It gets back the registry (first line), `started` with a pidfd for every runner, and `exited` with the wait
status. When its connection ends, its runners are killed at once: nobody would read what they say.

Before a worker puts back what a dead one had claimed, it asks with `fence` for that one's runners to be gone,
and waits for `fenced`: else a task could run again while its first run still goes on.

With `ask` and one descriptor it has a process forked that answers a command of remote control (`panel.py`).
"""

import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback

from . import application, hooks
from .process import set_title

#: Exit code for an application that can't be used (EX_CONFIG).
EX_CONFIG = 78

#: Descriptors that come with the order for a runner: its channel, its output, the inbox and the table.
DESCRIPTORS = 4


def main(boot, channel, thresholds):
    set_title("fairstalk: zygote")
    channel.set_inheritable(False)
    started = time.monotonic()
    try:
        app, info = application.load(boot)
        from . import about, panel, results, runner, unsupported  # noqa: F401  (so that every runner shares it)

        results_db = results.database(app, boot["server"])
        registry = application.registry(app, results_db)
        registry |= {"commands": panel.commands(), "answers": panel.answers(app, info.hostname)}
    except BaseException:
        report(channel, {"failed": {"message": traceback.format_exc()}})
        sys.exit(EX_CONFIG)
    # What is garbage by now stays, shared by all runners: it is less than a hundredth, and to look for it takes as long as
    # a tenth of the import.
    gc.freeze()
    if gc.get_threshold()[0] == 0:  # else the application has set its own
        gc.set_threshold(*thresholds)
    took = int((time.monotonic() - started) * 1000)
    unfit = application.warnings(app, boot["broker"], boot["queues"]) + about.warnings(app) + unsupported.warnings(app)
    ready = {"tasks": len(application.tasks(app)), "import_ms": took, "warnings": unfit}
    if boot["listener"] is None:
        ready["about"] = about.about(app, results_db)
    report(channel, {"ready": ready})
    if boot["listener"] is not None:
        listener = socket.socket(fileno=boot["listener"])
        Zygote(app, info, listener, channel, registry, results_db).serve()


def report(channel, message):
    channel.sendall(json.dumps(message).encode() + b"\n")


class Worker:
    """One worker's connection."""

    def __init__(self, sock):
        self.sock = sock
        self.pending = b""
        self.runners = set()
        self.owner = None


class Zygote:
    def __init__(self, app, info, listener, channel, registry, results_db):
        self.app = app
        self.info = info
        self.life = hooks.Life(app, info)
        self.orders = b""
        self.listener = listener
        self.channel = channel
        self.hello = json.dumps({"registry": registry}).encode() + b"\n"
        self.results_db = results_db
        self.owners = {}
        self.fences = []
        self.selector = selectors.DefaultSelector()

    def serve(self):
        """Until the supervisor closes its end of the channel; never returns."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.channel, selectors.EVENT_READ, self.hear)
        self.selector.register(wake_read, selectors.EVENT_READ, lambda: self.reap(wake_read))
        self.wake = (wake_read, wake_write)
        while True:
            for key, _ in self.selector.select():
                key.data()

    def hear(self):
        """What the supervisor says."""
        try:
            data = self.channel.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.end()
        *lines, self.orders = (self.orders + data).split(b"\n")
        for line in lines:
            {"ready": self.life.ready, "stopping": self.life.stopping}[json.loads(line)["order"]]()

    def end(self):
        """The supervisor is gone, or has no more use for this process. Never returns."""
        for pid in self.owners:
            kill_group(pid)
        try:
            self.life.gone()
            sys.__stdout__.flush()
        finally:
            os._exit(0)

    def accept(self):
        sock, _ = self.listener.accept()
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if int.from_bytes(peer[4:8], sys.byteorder) != os.getuid():
            sock.close()  # an abstract socket has no file mode: only our own user may ask for runners
            return
        worker = Worker(sock)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self.read(worker))
        try:
            sock.sendall(self.hello)
        except OSError:
            self.drop(worker)

    def read(self, worker):
        try:
            data, fds, _, _ = socket.recv_fds(worker.sock, 65536, DESCRIPTORS)
        except OSError:
            data, fds = b"", []
        if not data:
            self.drop(worker)
            return
        worker.pending += data
        while b"\n" in worker.pending:
            line, worker.pending = worker.pending.split(b"\n", 1)
            order = json.loads(line)
            if "fence" in order:
                self.fence(worker, order["fence"])
            elif "ask" in order:
                self.ask(worker, fds)
                fds = []
            else:
                self.fork(worker, order, fds)
                fds = []

    def fence(self, asking, owner):
        for worker in set(self.owners.values()):
            if worker.owner == owner:
                self.drop(worker)
        self.fences.append((asking, owner))
        self.answer_fences()

    def answer_fences(self):
        """Tell those who wait for runners to be gone of the ones that are."""
        alive = {worker.owner for worker in self.owners.values()}
        waiting = []
        for asking, owner in self.fences:
            if owner in alive:
                waiting.append((asking, owner))
            else:
                self.send(asking, {"fenced": {"owner": owner}})
        self.fences = waiting

    def send(self, worker, content):
        try:
            worker.sock.sendall(message(content))
        except OSError:
            self.drop(worker)

    def fork(self, worker, order, fds):
        """Start one runner; the descriptors belong to it alone."""
        hooks.before_fork(self.info)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self.in_child(worker, fds, order, parent)
        for fd in fds:
            os.close(fd)
        self.owners[pid] = worker
        worker.runners.add(pid)
        worker.owner = order["owner"]
        pidfd = os.pidfd_open(pid)
        try:
            socket.send_fds(worker.sock, [message({"started": {"runner": order["runner"], "pid": pid}})], [pidfd])
        except OSError:
            self.drop(worker)
        finally:
            os.close(pidfd)

    def ask(self, worker, fds):
        """Start one process that answers a command of remote control; the descriptor is how it is asked."""
        (sock,) = fds
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            from . import panel

            os.setpgid(0, 0)
            self.detach(worker, parent)
            panel.start(self.app, sock)
        os.close(sock)
        self.owners[pid] = worker
        worker.runners.add(pid)

    def in_child(self, worker, fds, order, parent):
        from . import runner

        sock, output, inbox, table = fds
        os.setpgid(0, 0)
        if order["door"] is not None:
            enter(order["door"], output)
        self.detach(worker, parent)
        channel, inbox = socket.socket(fileno=sock), socket.socket(fileno=inbox)
        runner.start(self.app, channel, output, inbox, table, order, self.results_db)

    def detach(self, worker, parent):
        """A child keeps nothing of the zygote's, and dies with it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.selector.close()
        self.channel.close()
        self.listener.close()
        for end in self.wake:
            end.close()
        for other in {*self.owners.values(), worker}:
            other.sock.close()
        from celery.platforms import set_pdeathsig

        set_pdeathsig("SIGKILL")
        if os.getppid() != parent:
            os._exit(1)  # the zygote died before the line above took effect

    def reap(self, wake_read):
        try:
            wake_read.recv(4096)
        except BlockingIOError:
            pass
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            kill_group(dead.si_pid)  # while it is not reaped the number can't mean anybody else
            pid, status, used = os.wait4(dead.si_pid, 0)
            worker = self.owners.pop(pid, None)
            if worker is None:
                continue
            worker.runners.discard(pid)
            self.send(worker, {"exited": {"pid": pid, "status": status, "peak": used.ru_maxrss * 1024}})
            self.answer_fences()

    def drop(self, worker):
        """The worker is gone: so are its runners."""
        if worker.sock.fileno() < 0:
            return
        self.selector.unregister(worker.sock)
        worker.sock.close()
        for pid in worker.runners:
            kill_group(pid)


def enter(door, output):
    """Go into the cgroup of this runner, whose memory limit would mean nothing otherwise."""
    try:
        with open(door, "wb", buffering=0) as procs:
            procs.write(b"0")
    except OSError as exc:
        os.write(output, "a runner can't enter its cgroup: {}\n".format(exc).encode())
        os._exit(1)


def message(content):
    return json.dumps(content).encode() + b"\n"


def kill_group(pid):
    """Kill a runner and everything its task has started (each runner leads its own process group)."""
    for kill in (os.killpg, os.kill):  # a runner that was just forked may not lead its group yet
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass
