"""Frames between a runner and its worker: a length, a kind, parts. The Rust half is `frames.rs`.

Worker to runner, `>I B 4I`: length of what follows, kind, lengths of headers, properties, content type and
note; then these four and, as the rest, the body. The note of a message to run is empty, or asks for its result
to be shown.
Runner to worker: see the `pack_…` functions.
"""

import json
import struct
import threading

#: Kinds the worker sends: run this message; record its failure without running it.
RUN, RECORD = ord("R"), ord("F")
#: Kinds the runner sends.
READY, DONE, STORE, LOG = b"U", b"D", b"S", b"O"

#: Outcomes in DONE, in the order of `Outcome` in frames.rs.
SUCCESS, FAILURE, RETRY, IGNORED, REJECTED, REQUEUED, REFUSED = range(7)

_HEAD = struct.Struct(">IB4I")
_DONE = struct.Struct(">Bd")
_STORE = struct.Struct(">IIq")
_LENGTH = struct.Struct(">I")


class Channel:
    """The runner's end of the socket; threads of the application may log while a task ends."""

    def __init__(self, sock):
        self._sock = sock
        self._buffer = bytearray()
        self._lock = threading.Lock()

    def receive(self):
        """Next frame as (kind, headers, properties, content type, note, body), or None at end of file."""
        buffer = self._buffer
        while len(buffer) < _HEAD.size or len(buffer) < 4 + _LENGTH.unpack_from(buffer)[0]:
            chunk = self._sock.recv(262144)
            if not chunk:
                return None
            buffer += chunk
        length, kind, a, b, c, d = _HEAD.unpack_from(buffer)
        end = 4 + length
        frame = bytes(buffer[_HEAD.size:end])
        del buffer[:end]
        b += a
        c += b
        d += c
        return kind, frame[:a], frame[a:b], frame[b:c], frame[c:d], frame[d:]

    def send(self, kind, *parts):
        """Send one frame whole."""
        payload = b"".join(parts)
        with self._lock:
            self._sock.sendall(_LENGTH.pack(len(payload) + 1) + kind + payload)


def pack_done(outcome, runtime, stores, detail):
    """A task has ended: outcome, seconds, results to store, and what the log and events want to know."""
    note = json.dumps(detail).encode() if detail else b""
    return (_DONE.pack(outcome, runtime or 0.0), _LENGTH.pack(len(stores)), *map(pack_store, stores), note)


def pack_store(store):
    """One result: key, encoded value, time to live in milliseconds (0 = for ever)."""
    key, value, ttl = store
    return _STORE.pack(len(key), len(value), ttl) + key + value
