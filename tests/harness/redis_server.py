"""A Redis server of one's own."""
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import redis

from .waiting import eventually


def free_port():
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A redis-server without persistence, on a free TCP port and on a unix socket, in a directory of its own.

    The directory is directly below the system's temporary one, because a socket's path may have 107 bytes only.
    It can be stopped and started again on the same addresses, empty then, to play an outage.
    """

    def __init__(self, *options, before=()):
        self.options = options
        #: What stands before the program, to look at it from outside.
        self.before = before
        self.directory = Path(tempfile.mkdtemp(prefix="fairstalk-redis-"))
        self.socket = self.directory / "redis.sock"
        self.port = None
        self.process = None

    @property
    def url(self):
        """Database 0 over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self):
        """Database 0 over the unix socket, as fairstalk and redis-py spell it."""
        return f"unix://{self.socket}?db=0"

    def listening(self):
        """Options by which it listens on its port."""
        return ["--port", str(self.port)]

    def client(self, **options):
        """A new redis-py client, with the server's password where it has one."""
        if "--requirepass" in self.options:
            options.setdefault("password", self.options[self.options.index("--requirepass") + 1])
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def start(self):
        """Start and wait until it answers. Somebody may have taken the free port in between, then another is tried."""
        known = self.port
        for _ in range(5):
            self.port = known or free_port()
            with open(self.directory / "redis.log", "ab") as log:
                self.process = subprocess.Popen(
                    [*self.before, "redis-server", "--bind", "127.0.0.1", *self.listening(), "--unixsocket", str(self.socket)]
                    + ["--save", "", "--appendonly", "no", "--dir", str(self.directory), *self.options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            eventually(lambda: self.answers() or self.process.poll() is not None, what=self.log)
            if self.process.poll() is None:
                return self
        raise RuntimeError(f"redis-server does not start:\n{self.log()}")

    def answers(self):
        """Whether our process serves the socket."""
        with self.client() as client:
            try:
                return client.info("server")["process_id"] == self.process.pid
            except redis.RedisError:
                return False

    def log(self):
        """What it has logged."""
        return (self.directory / "redis.log").read_text(errors="replace")

    def stop(self):
        """Kill it; clients see a closed connection, then a refused one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
