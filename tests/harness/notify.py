"""The other end of NOTIFY_SOCKET: what systemd would hear."""
import array
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
from typing import NamedTuple

from .waiting import PATIENCE

CREDENTIALS = struct.Struct("3i")


class Notification(NamedTuple):
    """One datagram."""

    time: float
    pid: int
    state: dict


class NotifySocket:
    """A datagram socket as systemd listens on, and everything that was sent to it.

    The kernel says who sent a datagram, so a test can check that only the supervisor speaks.
    """

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="fairstalk-notify-")
        self.path = os.path.join(self.directory, "notify")
        self.received = []
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._listen, name="notify", daemon=True)
        self._thread.start()

    def _listen(self):
        space = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(16 * 4)
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(65536, space)
            if not data:
                return
            pid = 0
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = CREDENTIALS.unpack(payload)[0]
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    # A barrier, or a descriptor to keep: closing it is the answer to a barrier.
                    for descriptor in array.array("i", payload):
                        os.close(descriptor)
            lines = data.decode(errors="replace").splitlines()
            state = dict(line.partition("=")[::2] for line in lines)
            with self._changed:
                self.received.append(Notification(time.monotonic(), pid, state))
                self._changed.notify_all()

    def states(self, key=None):
        """All states received so far, or all values of one key."""
        with self._changed:
            states = [notification.state for notification in self.received]
        return states if key is None else [state[key] for state in states if key in state]

    def wait_for(self, predicate, timeout=PATIENCE, start=0):
        """Return the first state, counted from the `start`-th, for which `predicate(state)` holds."""

        def found():
            return next((n.state for n in self.received[start:] if predicate(n.state)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, timeout)
            state = found()
        if state is None:
            raise AssertionError(f"no such notification within {timeout:g} s; received: {self.states()[-20:]}")
        return state

    def close(self):
        """Stop listening, if that was not done before. An empty datagram of our own ends the thread."""
        if not self._thread.is_alive():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self.path)
        self._thread.join()
        self._socket.close()
        shutil.rmtree(self.directory, ignore_errors=True)
