"""Tasks that a worker has claimed before a runner was free for them. The Rust half is `inbox.rs`.

All runners of a worker take from one socket, so tasks start in the order in which they were claimed, whoever is free first.
Each packet is a whole frame (`frames.py`). In a table that is shared with the worker each runner says what it does, and the worker
says who may take more.
"""

import mmap
import os
import socket

from . import frames

#: Largest packet.
PACKET = 32768
#: Places in each part of the table: what a runner does, or the number of its claim; whether it may take more; and the claim that
#: it has begun last, whatever it does since.
SLOTS = 4096

#: What a runner does that runs no task: it waits on its own channel, or is about to look into the inbox. Else the place has
#: the number of its claim, which is larger.
WAITING, LOOKING = 0, 1


class Inbox:
    """One runner's view of the socket and of the table."""

    def __init__(self, sock, table, slot, tasks_max):
        self._sock = sock
        self._table = memoryview(mmap.mmap(table, 3 * SLOTS * 8)).cast("Q")
        os.close(table)
        self._slot = slot
        self._latest = 2 * SLOTS + slot
        self._left = tasks_max
        self._table[slot] = WAITING
        self._table[self._latest] = 0

    def began(self, sequence):
        """Say what is about to be done, before any of it is."""
        self._table[self._latest] = sequence
        self._table[self._slot] = sequence + LOOKING + 1
        if self._left is not None:
            self._left -= 1

    def ended(self):
        """Say that the task has ended, before the worker hears of its outcome.

        A signal meant for the task is sent only while the table says that it runs.
        """
        self._table[self._slot] = LOOKING

    def take(self):
        """Next frame, or None if there is none for this runner."""
        if self._table[SLOTS + self._slot] and (self._left is None or self._left > 0):
            # Said before the look: the worker, which first sends and then reads the table, wakes whoever is not at work.
            self._table[self._slot] = LOOKING
            try:
                packet = self._sock.recv(PACKET, socket.MSG_DONTWAIT)
            except BlockingIOError:
                packet = None
            if packet:
                return frames.unpack(packet)
        self._table[self._slot] = WAITING
        return None
