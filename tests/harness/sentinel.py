"""A primary with a replica, and Sentinels that put the one in the place of the other."""
import shutil
import subprocess
import tempfile
from pathlib import Path

import redis

from .redis_server import RedisServer, free_port
from .waiting import eventually

NAME = "mymaster"


class Sentinels:
    """Two servers and three Sentinels, who call a server dead that is silent for half a second."""

    def __init__(self, password=None, count=3):
        self.directory = Path(tempfile.mkdtemp(prefix="fairstalk-sentinel-"))
        self.password = password
        self.servers = [RedisServer(), None]
        self.ports = [free_port() for _ in range(count)]
        self.processes = []

    @property
    def url(self):
        """As kombu, Celery and fairstalk spell it."""
        return ";".join(f"sentinel://127.0.0.1:{port}/0" for port in self.ports)

    def primary(self):
        """The server whom the first Sentinel that answers takes for it."""
        for port in self.ports:
            try:
                with redis.Redis(port=port, password=self.password, protocol=2) as client:
                    known = client.sentinel_get_master_addr_by_name(NAME)
                    return next(server for server in self.servers if server.port == known[1])
            except redis.RedisError:
                continue
        raise AssertionError("no Sentinel answers")

    def fail_over(self):
        """Ask for it."""
        with redis.Redis(port=self.ports[0], protocol=2) as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)

    def client(self, **options):
        """A client of the present primary."""
        return self.primary().client(**options)

    def __enter__(self):
        first = self.servers[0].start()
        self.servers[1] = RedisServer("--replicaof", "127.0.0.1", str(first.port), "--repl-diskless-sync-delay", "0").start()
        with first.client() as client:
            eventually(lambda: client.info("replication").get("slave0", {}).get("state") == "online", what="a replica")
        for number, port in enumerate(self.ports):
            file = self.directory / f"{number}.conf"
            file.write_text("".join(f"{line}\n" for line in (
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {self.directory}",
                f"sentinel monitor {NAME} 127.0.0.1 {first.port} {len(self.ports) // 2 + 1}",
                f"sentinel down-after-milliseconds {NAME} 500",
                f"sentinel failover-timeout {NAME} 3000",
                *([f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"] if self.password else []),
            )))
            log = open(self.directory / f"{number}.log", "ab")
            with log:
                self.processes.append(subprocess.Popen(
                    ["redis-server", file, "--sentinel"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                ))
        eventually(self.agree, what=self.log)
        return self

    def agree(self):
        """Whether each knows the replica and the other Sentinels."""
        for port in self.ports:
            try:
                with redis.Redis(port=port, password=self.password, protocol=2) as client:
                    state = client.sentinel_master(NAME)
            except redis.RedisError:
                return False
            if state["num-slaves"] != 1 or state["num-other-sentinels"] != len(self.ports) - 1:
                return False
        return True

    def log(self):
        """What the Sentinels have logged."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.directory.glob("*.log")))

    def __exit__(self, *exception):
        for process in self.processes:
            process.kill()
            process.wait()
        for server in self.servers:
            if server is not None:
                server.__exit__(*exception)
        shutil.rmtree(self.directory, ignore_errors=True)
