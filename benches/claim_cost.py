"""What a claim costs the server, by what waits: microseconds for each task, and the longest single call.

It calls the real scripts as a worker does, from one process. For each size of a step there are two figures: time in
scripts by the server's own clock (INFO commandstats), and CPU time of the server, reading and answering included. The
longest calls are by CPU time, so that what else the machine does is no part of it.
"""
import uuid

from harness import ROOT
from harness.redis_server import RedisServer
from probes import cpu_seconds

SCRIPTS = ROOT / "src" / "broker" / "scripts"
QUEUES = [f"queue_{number}" for number in range(20)]
SHARED = "owners owners:figures delayed delayed:messages dead dead:messages dead:entries tenants ready intake ring".split()
BATCHES = [1, 4, 16, 64]
# As `src/broker/filing.rs` cuts what one call files.
LOOK, KINDS = 200, 50
# The body of a message of usual size; what comes last is what the script knows it by.
BODY = '{"body": "' + "x" * 400 + '", "properties": {"delivery_tag": "%s"}}'


class Owner:
    """One worker, as far as the scripts know."""

    def __init__(self, server):
        self.client, self.pid, self.sequence, self.held = server.client(), server.process.pid, 1, []
        client = self.client
        client.flushall()
        # CPU seconds of all calls and of the longest since `forget`.
        self.spent = self.longest = 0.0
        parts = {"step": ("step", "claim"), "beat": ("beat",), "leave": ("leave",)}
        self.scripts = {
            script: client.script_load("".join((SCRIPTS / f"{name}.lua").read_text() for name in ("tenants", *names)))
            for script, names in parts.items()
        }
        self.call("beat", QUEUES, 3_600_000, "{}", 1, 100, 3_600_000, 1, 16, 3600)

    def call(self, script, lists, *arguments):
        """One call with what all scripts expect."""
        keys = ["unacked", "unacked_index", *(f"fairstalk:{name}" for name in SHARED), "fairstalk:claims:o", *lists]
        before = cpu_seconds(self.pid)
        reply = self.client.evalsha(self.scripts[script], len(keys), *keys, "", "o", *arguments)
        spent = cpu_seconds(self.pid) - before
        self.spent, self.longest = self.spent + spent, max(self.longest, spent)
        return reply

    def forget(self):
        """Count anew; returns milliseconds of the longest call until now."""
        longest, self.spent, self.longest = self.longest * 1e3, 0.0, 0.0
        return longest

    def step(self, want=0, look=0, filing=(0,)):
        """Settles what is held, each of 10 ms, and claims so many."""
        settlements = [part for sequence, flow in self.held for part in (sequence, "ack", flow, 10, "", "", "", 0)]
        reply = self.call(
            "step", QUEUES, self.sequence, want, 0, 0, 0, 1, look, 0, 10, 0, want, len(self.held), *settlements, 0, *filing,
            0, 0, 0, ""
        )
        flows = reply[4][1::5]
        self.held = list(zip(range(self.sequence, self.sequence + len(flows)), flows))
        self.sequence += len(flows)
        return reply

    def file(self, messages, tenants):
        """Into lanes, 200 at a time; each tenant has a queue, as users have, and its messages are mixed with others'."""
        each = messages // tenants
        for number, queue in enumerate(QUEUES):
            flows = [f"t:{tenant}" for tenant in range(number, tenants, len(QUEUES))]
            line = flows * each
            while line:
                kinds, length = set(), 0
                while length < min(LOOK, len(line)) and len(kinds | {line[length]}) <= KINDS:
                    kinds.add(line[length])
                    length += 1
                self.file_batch(queue, line[:length])
                line = line[length:]

    def file_batch(self, queue, line):
        """Messages of these flows, the oldest first."""
        batch = [BODY % uuid.uuid4() for _ in line]
        self.client.lpush(queue, *batch)
        place = {flow: at for at, flow in enumerate(dict.fromkeys(line))}
        whose = b"".join(place[flow].to_bytes(2, "big") for flow in line)
        shares = [part for flow in place for part in (flow, "", "")]
        self.step(filing=(1, queue, len(batch), batch[0][-64:], batch[-1][-64:], len(place), *shares, whose))


def measure(app, sizes, say):
    """Few and many messages, few and many tenants; `app` is not needed."""
    few, many, tasks = sizes.cost
    figures = []
    with RedisServer() as server:
        for messages, tenants in [(few, 10), (many, 10), (many // 10, many // 10), (many, many // 10)]:
            figures.append({"messages": messages, "tenants": tenants, **one_size(server, messages, tenants, tasks)})
            say(f"cost: {messages} messages of {tenants} tenants")
    return figures


def one_size(server, messages, tenants, tasks):
    """Microseconds a task by size of a step; milliseconds of the longest step, filing and pouring back."""
    owner = Owner(server)
    owner.forget()
    owner.file(messages, tenants)
    filing, longest, costs, waiting = owner.forget(), 0.0, [], messages
    for batch in BATCHES:
        steps = min(tasks, waiting // 4) // batch
        owner.step(batch, LOOK)
        owner.client.config_resetstat()
        owner.forget()
        for _ in range(steps):
            assert len(owner.step(batch, LOOK)[4]) == 5 * batch
        script = owner.client.info("commandstats")["cmdstat_evalsha"]["usec"]
        taken = steps * batch
        costs.append({"batch": batch, "script_usec": script / taken, "cpu_usec": owner.spent * 1e6 / taken})
        longest = max(longest, owner.forget())
        owner.step()
        waiting -= (steps + 1) * batch
    owner.forget()
    while owner.call("leave", [], LOOK, 0)[0] > 0:
        pass
    assert sum(owner.client.llen(queue) for queue in QUEUES) == waiting
    return {"steps": costs, "step_ms": longest, "filing_ms": filing, "leaving_ms": owner.forget()}
