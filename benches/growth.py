"""No-op tasks per second by what grows: waiting messages, waiting tenants, payload, worker processes; of payloads those of a
stock worker, too.

Each point is a run of its own. Counted are the tasks that end between the first second after READY, or the first tenth of the
messages, and a number of seconds after that, or the last tenth: so many messages may wait that nobody would like to wait for all.
"""
import time
from itertools import cycle, islice

import probes
from messages import CHUNK, IN_LANES, Template, fill, users_of_queues
from systems import Daemon, Stock, stage

LOOK_EVERY = 0.01
PATIENCE = 300.0


def measure(app, sizes, say):
    """Rows of points: (what there is of it, tasks per second)."""
    from bench.tasks import noop

    rows = {"waiting": [], "tenants": [], "payload": [], "payload_stock": [], "processes": []}

    def point(row, amount, system, put):
        with stage(system, app) as setting:
            count = put(setting.client)
            rate = drained(setting, count, sizes.growth_seconds)
            rows[row].append([amount, rate])
            say(f"growth: {row} {amount}: {rate:.0f} tasks/s")
            if isinstance(system, Stock):
                setting.worker.kill()  # told to end, it may not come to an end with large messages prefetched

    few = sizes.growth
    for count in sizes.growth_waiting:
        point("waiting", count, Daemon(), lambda client, n=count: len(fill(client, noop, n)))
    for tenants in sizes.growth_tenants:
        point("tenants", tenants, Daemon(), lambda client, n=tenants: len(fill(client, noop, max(few, 2 * n), range(1, n + 1))))
    for size, count in sizes.growth_payloads:
        for row, system in (("payload", Daemon()), ("payload_stock", Stock())):
            point(row, size, system, lambda client, s=size, n=count: loads(client, s, n))
    for processes in sizes.growth_processes:
        point("processes", processes, Daemon(processes, 2), lambda client: len(fill(client, noop, few)))
    return rows


def loads(client, size, count):
    """Messages with so many bytes of arguments, one queue after the other in turn."""
    from bench.tasks import add

    templates = [Load(client, add, queue, size) for queue in users_of_queues()]
    source = islice(cycle(templates), count)
    while chunk := list(islice(source, max(1, min(CHUNK, 10_000_000 // size)))):
        with client.pipeline(transaction=False) as pipeline:
            for template in chunk:
                pipeline.lpush(template.queue, template.copy()[1])
            pipeline.execute()
    return count


class Load(Template):
    """A message with a long argument, of nobody."""

    def __init__(self, client, task, queue, size):
        sent = task.apply_async(("x" * size, ""), queue=queue, ignore_result=True, argsrepr="…")
        self.keep(client, queue, sent)


def drained(setting, count, seconds):
    """Tasks per second in the stretch that counts."""
    setting.start()
    setting.wait_ready()
    ready = time.monotonic()
    gauge = probes.Gauge(setting.redis.socket, users_of_queues(), ["unacked"], [IN_LANES])
    try:
        at, left = gauge.read()
        while left > 0.9 * count and at < ready + 1:
            at, left = gauge.read()
            time.sleep(LOOK_EVERY)
        begin, most = at, left
        while left > 0.1 * count and at < begin + seconds:
            assert setting.worker.popen.poll() is None and at < begin + PATIENCE, setting.worker.log()
            at, left = gauge.read()
            time.sleep(LOOK_EVERY)
    finally:
        gauge.close()
    assert most > left, "nothing was drained, or all of it between two looks"
    return (most - left) / (at - begin)
