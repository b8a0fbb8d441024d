"""Frames between a runner and its worker: a length, a kind, parts. The Rust half is `frames.rs`.

Worker to runner, `>I B Q 4I`: length of what follows, kind, number of the claim, lengths of headers, properties, content
type and note; then these four and, as the rest, the body. The note of a message to run is empty, or asks for its result
to be shown.
Runner to worker, `>I c Q`: length, kind, number of the claim; then see the `pack_…` functions.
"""

import json
import socket
import struct
import threading

#: Kinds the worker sends: run this message; record its failure without running it; look into the inbox.
RUN, RECORD, POKE = ord("R"), ord("F"), ord("P")
#: Kinds the runner sends.
READY, DONE, STORE, LOG = b"U", b"D", b"S", b"O"

#: Outcomes in DONE, in the order of `Outcome` in frames.rs.
SUCCESS, FAILURE, RETRY, IGNORED, REJECTED, REQUEUED, REFUSED = range(7)

#: From so many bytes on a frame is read in pieces.
LARGE = 16384

_HEAD = struct.Struct(">IBQ4I")
_SAID = struct.Struct(">IcQ")
_DONE = struct.Struct(">Bd")
_STORE = struct.Struct(">IIq")
_LENGTH = struct.Struct(">I")


class Channel:
    """The runner's end of the socket; threads of the application may log while a task ends."""

    def __init__(self, sock):
        self._sock = sock
        self._lock = threading.Lock()
        #: Number of the claim that is worked on, which all that is said is about.
        self.sequence = 0

    def receive(self):
        """Next frame as `unpack` gives it, or None at end of file."""
        head = self._take(_HEAD.size)
        if head is None:
            return None
        length, kind, sequence, a, b, c, d = _HEAD.unpack(head)
        rest = length + 4 - _HEAD.size
        if rest < LARGE:
            rest = self._take(rest)
            return None if rest is None else unpack(head + rest)
        # A large body is read into its place: each copy of it costs as much as the kernel's.
        parts = self._take(a + b + c + d)
        body = self._take(rest - a - b - c - d)
        if parts is None or body is None:
            return None
        b += a
        c += b
        return kind, sequence, parts[:a], parts[a:b], parts[b:c], parts[c:], body

    def _take(self, count):
        """So many bytes, or None if the socket ends before."""
        if not count:
            return b""
        taken = self._sock.recv(count, socket.MSG_WAITALL)
        while 0 < len(taken) < count:  # a signal came between
            more = self._sock.recv(count - len(taken), socket.MSG_WAITALL)
            if not more:
                return None
            taken += more
        return taken or None

    def send(self, kind, *parts):
        """Send one frame whole."""
        payload = b"".join(parts)
        with self._lock:
            self._sock.sendall(_SAID.pack(len(payload) + 9, kind, self.sequence) + payload)


def unpack(frame):
    """A whole frame as (kind, number of the claim, headers, properties, content type, note, body)."""
    _, kind, sequence, a, b, c, d = _HEAD.unpack_from(frame)
    a += _HEAD.size
    b += a
    c += b
    d += c
    return kind, sequence, frame[_HEAD.size:a], frame[a:b], frame[b:c], frame[c:d], frame[d:]


def pack_done(outcome, runtime, stores, detail):
    """A task has ended: outcome, seconds, results to store, and what the log and events want to know."""
    note = json.dumps(detail).encode() if detail else b""
    return (_DONE.pack(outcome, runtime or 0.0), _LENGTH.pack(len(stores)), *map(pack_store, stores), note)


def pack_store(store):
    """One result: key, encoded value, time to live in milliseconds (0 = for ever)."""
    key, value, ttl = store
    return _STORE.pack(len(key), len(value), ttl) + key + value
