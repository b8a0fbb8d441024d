"""What a claim costs the server, by what waits: microseconds for each task, and the longest single call.

It calls the real scripts as a worker does, from one process. For each size of a step there are two figures: time in
scripts by the server's own clock (INFO commandstats), and CPU time of the server's thread, reading and answering included. The
longest calls are by CPU time, so that what else the machine does is no part of it; what Redis does ten times a second by
itself is (a millisecond of moving keys into a larger table, while there is one).

All sizes are there at once, each in a server of its own, and are measured by turns: their ratios don't depend on the machine's
mood. What was claimed is filed anew, so that as much waits all the time.
"""
import uuid
from contextlib import ExitStack

from harness import ROOT
from harness.redis_server import RedisServer
from messages import percentile
from probes import thread_seconds

SCRIPTS = ROOT / "src" / "broker" / "scripts"
QUEUES = [f"queue_{number}" for number in range(20)]
SHARED = "owners owners:figures delayed delayed:messages dead dead:messages dead:entries tenants ready intake ring".split()
# As a worker bounds what one call does (`src/worker/bounds.rs`, `src/broker/filing.rs`): so many tasks of as many tenants, and
# more where these are fewer.
BATCHES, BATCH_OF_FEW = [1, 4, 16, 24], 64
LOOK, KINDS = 200, 24
# The body of a message of usual size; what comes last is what the script knows it by.
BODY = '{"body": "' + "x" * 400 + '", "properties": {"delivery_tag": "%s"}}'


class Owner:
    """One worker, as far as the scripts know."""

    def __init__(self, server):
        self.client, self.pid, self.sequence, self.held = server.client(), server.process.pid, 1, []
        client = self.client
        client.flushall()
        self.calls = []  # CPU seconds of each since `forget`
        parts = {"step": ("step", "claim"), "beat": ("beat",), "leave": ("pour", "leave")}
        self.scripts = {
            script: client.script_load("".join((SCRIPTS / f"{name}.lua").read_text() for name in ("tenants", "lanes", *names)))
            for script, names in parts.items()
        }
        self.call("beat", QUEUES, 3_600_000, "{}", 1, 100, 3_600_000, 1, 16, 3600)

    def call(self, script, lists, *arguments):
        """One call with what all scripts expect."""
        keys = ["unacked", "unacked_index", *(f"fairstalk:{name}" for name in SHARED), "fairstalk:claims:o", *lists]
        before = thread_seconds(self.pid)
        reply = self.client.evalsha(self.scripts[script], len(keys), *keys, "", "o", *arguments)
        self.calls.append(thread_seconds(self.pid) - before)
        return reply

    def forget(self):
        """Count anew; returns what was counted until now."""
        calls, self.calls = self.calls, []
        return calls

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
            self.file_line(queue, [f"t:{tenant}" for tenant in range(number, tenants, len(QUEUES))] * each)

    def file_line(self, queue, line):
        """As many of it at a time as one call files."""
        first = 0
        while first < len(line):
            kinds, length = set(), 0
            for flow in line[first:first + LOOK]:
                kinds.add(flow)
                if len(kinds) > KINDS:
                    break
                length += 1
            self.file_batch(queue, line[first:first + length])
            first += length

    def file_batch(self, queue, line):
        """Messages of these flows, the oldest first."""
        batch = [BODY % uuid.uuid4() for _ in line]
        self.client.lpush(queue, *batch)
        place = {flow: at for at, flow in enumerate(dict.fromkeys(line))}
        whose = b"".join(place[flow].to_bytes(2, "big") for flow in line)
        shares = [part for flow in place for part in (flow, "", "")]
        self.step(filing=(1, queue, len(batch), batch[0][-64:], batch[-1][-64:], len(place), *shares, whose))


#: Turns in which the tasks of a size are measured.
ROUNDS = 4


def measure(app, sizes, say):
    """Few and many messages of ten tenants; few and many tenants of as many messages. `app` is not needed."""
    few, many, tenants, tasks = sizes.cost
    points = [(few, 10), (many, 10), (tenants, 10), (tenants, max(10, tenants // 100)), (tenants, tenants)]
    with ExitStack() as servers:
        places = []
        for messages, of in points:
            places.append(Place(servers.enter_context(RedisServer()), messages, of))
            say(f"cost: {messages} messages of {of} tenants are filed")
        for number in range(ROUNDS):
            for place in places:
                for batch in place.batches:
                    place.turn(batch, max(1, tasks // ROUNDS // batch))
            say(f"cost: round {number + 1} of {ROUNDS}")
        figures = [place.figures() for place in places]
    return {"sizes": figures, "growth": growth(figures)}


def growth(figures):
    """How much dearer a task is with most messages, and with most tenants, than with fewest: by size of a step."""

    def ratios(least, most):
        return [other["script_usec"] / one["script_usec"] for one, other in zip(least["steps"], most["steps"])]

    return {"messages": ratios(figures[0], figures[1]), "tenants": ratios(figures[2], figures[-1])}


class Place:
    """So many messages of so many tenants, in a server of their own."""

    def __init__(self, server, messages, tenants):
        self.owner, self.messages, self.tenants = Owner(server), messages, tenants
        self.owner.forget()
        self.owner.file(messages, tenants)
        self.filings, self.steps = self.owner.forget(), []
        self.batches = [*BATCHES, BATCH_OF_FEW] if tenants <= BATCHES[-1] else BATCHES
        self.costs = {batch: [0, 0.0, 0.0] for batch in self.batches}  # tasks, seconds in scripts, CPU seconds

    def turn(self, batch, steps):
        """So many steps that settle and claim so many each; then as much waits as before."""
        owner, claimed = self.owner, []
        steps = min(steps, self.messages // 2 // batch)
        owner.step(batch, LOOK)
        claimed += owner.held
        owner.client.config_resetstat()
        owner.forget()
        for _ in range(steps):
            assert len(owner.step(batch, LOOK)[4]) == 5 * batch
            claimed += owner.held
        calls = owner.client.info("commandstats")["cmdstat_evalsha"]
        assert calls["calls"] == steps
        costs, spent = self.costs[batch], owner.forget()
        self.costs[batch] = [costs[0] + steps * batch, costs[1] + calls["usec"] / 1e6, costs[2] + sum(spent)]
        self.steps += spent
        owner.step()
        queues = {}
        for _, flow in claimed:
            queues.setdefault(QUEUES[int(flow[2:]) % len(QUEUES)], []).append(flow.decode())
        for queue, line in queues.items():
            owner.file_line(queue, line)
        self.filings += owner.forget()

    def figures(self):
        """Microseconds a task by size of a step; how long steps, filings and pouring back took, which is done now."""
        owner = self.owner
        owner.forget()
        while owner.call("leave", [], LOOK, 0)[0] > 0:
            pass
        assert sum(owner.client.llen(queue) for queue in QUEUES) == self.messages
        steps = [
            {"batch": batch, "script_usec": seconds * 1e6 / tasks, "cpu_usec": cpu * 1e6 / tasks}
            for batch, (tasks, seconds, cpu) in self.costs.items()
        ]
        calls = {"step": self.steps, "filing": self.filings, "leaving": owner.forget()}
        longest = {f"{kind}_ms": max(seconds) * 1e3 for kind, seconds in calls.items()}
        usual = {f"{kind}_p99_ms": percentile(seconds, 0.99) * 1e3 for kind, seconds in calls.items()}
        return {"messages": self.messages, "tenants": self.tenants, "steps": steps, **longest, **usual}
