"""A TCP proxy in front of a Redis server: counts connections, cuts them, delays what passes."""
import socket
import struct
import threading
import time

#: Closing with this set sends a reset, as a firewall or a crashed host does.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on a port of its own from construction to `close`."""

    def __init__(self, port):
        self.server = ("127.0.0.1", port)
        #: Seconds that each piece waits, both ways.
        self.delay = 0.0
        #: Connections that were made.
        self.count = 0
        #: Pieces that have passed, both ways, and bytes by way.
        self.pieces = 0
        self.passed = {"request": 0, "reply": 0}
        #: (way, bytes left): the connection that brings this to nothing is cut. Ways are "request" and "reply".
        self.fuse = None
        self._lock = threading.Lock()
        self._pairs = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self):
        """Database 0 by way of the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.count += 1
            try:
                server = socket.create_connection(self.server)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.append(pair)
            for way, source, target in (("request", client, server), ("reply", server, client)):
                threading.Thread(target=self._pass, args=(way, source, target, pair), daemon=True).start()

    def _pass(self, way, source, target, pair):
        try:
            while data := source.recv(65536):
                time.sleep(self.delay)
                allowed = self._allowed(way, len(data))
                target.sendall(data[:allowed])
                with self._lock:
                    self.heard(way, pair, data)
                    self.pieces += 1
                    self.passed[way] += allowed
                if allowed < len(data):
                    break
        except OSError:
            pass
        self._end(pair)

    def heard(self, way, pair, data):
        """A piece has passed between these two; for those who want to keep it."""

    def _allowed(self, way, length):
        with self._lock:
            if self.fuse is None or self.fuse[0] != way:
                return length
            left = self.fuse[1]
            self.fuse = (way, left - length) if left > length else None
            return min(left, length) if self.fuse is None else length

    def _end(self, pair):
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.remove(pair)
        for end in pair:
            # Wakes the thread that reads it; closing alone would not.
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def cut(self):
        """Reset every connection."""
        for pair in list(self._pairs):
            self._end(pair)

    def close(self):
        """No more connections, and none that is left."""
        self._listener.close()
        self.cut()
