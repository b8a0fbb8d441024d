#!/usr/bin/env python3
"""What a claim costs the server, by what waits: microseconds of script for each task, and the longest single call.

    benches/claim_cost.py             a thousand and a million messages, ten and a hundred thousand tenants; some minutes
    benches/claim_cost.py --quick     small sizes, to see that it works

It calls the real scripts as a worker does, from one process, and reads the server's own clocks (INFO commandstats,
SLOWLOG): neither Python nor the way there counts. Run it with the Python of target/venv.
"""
import argparse
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from harness.redis_server import RedisServer  # noqa: E402

SCRIPTS = ROOT / "src" / "broker" / "scripts"
QUEUES = [f"queue_{number}" for number in range(20)]
SHARED = "owners owners:figures delayed delayed:messages dead dead:messages dead:entries tenants ready intake ring".split()
BATCHES = [1, 4, 16]
LOOK = 500
# The body of a message of usual size; what comes last is what the script knows it by.
BODY = '{"body": "' + "x" * 400 + '", "properties": {"delivery_tag": "%s"}}'


class Owner:
    """One worker, as far as the scripts know."""

    def __init__(self, client):
        self.client, self.sequence, self.held = client, 1, []
        common = (SCRIPTS / "tenants.lua").read_text()
        self.scripts = {
            name: client.script_load(common + (SCRIPTS / f"{name}.lua").read_text()) for name in ("step", "beat", "leave")
        }
        self.call("beat", QUEUES, 3_600_000, "{}", 1, 100, 3_600_000, 1, 16)

    def call(self, script, lists, *arguments):
        """One call with what all scripts expect."""
        keys = ["unacked", "unacked_index", *(f"fairstalk:{name}" for name in SHARED), "fairstalk:claims:o", *lists]
        return self.client.evalsha(self.scripts[script], len(keys), *keys, "", "o", *arguments)

    def step(self, want=0, look=0, filing=(0,)):
        """Settles what is held, each of 10 ms, and claims so many."""
        settlements = [part for sequence, flow in self.held for part in (sequence, "ack", flow, 10, "", "", "", 0)]
        reply = self.call(
            "step", QUEUES, self.sequence, want, 0, 0, 0, 1, look, 0, 10, 0, len(self.held), *settlements, *filing
        )
        flows = reply[4][1::4]
        self.held = list(zip(range(self.sequence, self.sequence + len(flows)), flows))
        self.sequence += len(flows)
        return reply

    def file(self, messages, tenants):
        """Into lanes, 500 at a time; message number n is of tenant n modulo `tenants`."""
        for start in range(0, messages, LOOK):
            numbers = range(start, min(start + LOOK, messages))
            batch = [BODY % uuid.uuid4() for _ in numbers]
            queue = QUEUES[start // LOOK % len(QUEUES)]
            self.client.lpush(queue, *batch)
            flows = list(dict.fromkeys(number % tenants for number in numbers))
            place = {flow: at for at, flow in enumerate(flows)}
            whose = b"".join(place[number % tenants].to_bytes(2, "big") for number in numbers)
            shares = [part for flow in flows for part in (f"t:{flow}", "")]
            self.step(filing=(1, queue, len(batch), batch[0][-64:], batch[-1][-64:], len(flows), *shares, whose))


def longest(client):
    """Milliseconds of the longest script call since the last reset."""
    calls = [entry["duration"] for entry in client.slowlog_get(100_000) if entry["command"].startswith(b"EVALSHA")]
    client.slowlog_reset()
    return max(calls, default=0) / 1000


def measure(client, messages, tenants, tasks):
    """One line of the table."""
    client.flushall()
    owner = Owner(client)
    client.slowlog_reset()
    owner.file(messages, tenants)
    line = [f"{messages:,}", f"{tenants:,}", longest(client)]
    waiting = messages
    for batch in BATCHES:
        steps = min(tasks, waiting // 4) // batch
        owner.step(batch, LOOK)
        client.config_resetstat()
        for _ in range(steps):
            assert len(owner.step(batch, LOOK)[4]) == 4 * batch
        line.append(client.info("commandstats")["cmdstat_evalsha"]["usec"] / (steps * batch))
        owner.step()
        waiting -= (steps + 1) * batch
    line.append(longest(client))
    while owner.call("leave", [], 1000)[0] > 0:
        pass
    assert sum(client.llen(queue) for queue in QUEUES) == waiting
    return [*line, longest(client)]


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    few, many, tasks = (1000, 10_000, 200) if parser.parse_args().quick else (1000, 1_000_000, 4000)
    sizes = [(few, 10), (many, 10), (many // 10, many // 10), (many, many // 10)]
    head = ["messages", "tenants", *(f"us/task, {batch} a step" for batch in BATCHES)]
    head += ["longest step, ms", "longest filing of 500, ms", "longest pouring back of 1000, ms"]
    print("| " + " | ".join(head) + " |")
    print("|" + " ---: |" * len(head))
    with RedisServer("--slowlog-log-slower-than", "300", "--slowlog-max-len", "100000") as server:
        client = server.client()
        for messages, tenants in sizes:
            messages, tenants, filing, *costs, step, pouring = measure(client, messages, tenants, tasks)
            figures = [f"{cost:.1f}" for cost in costs] + [f"{time:.1f}" for time in (step, filing, pouring)]
            print("| " + " | ".join([messages, tenants, *figures]) + " |", flush=True)


if __name__ == "__main__":
    main()
