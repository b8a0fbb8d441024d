"""A million delayed messages: what they cost in memory, and how late those start whose time has come.

The million is written into Redis in the form in which a worker keeps it (docs/redis.md): to bring each in by way of a claim
would take minutes and change nothing of what is measured then. Some thousands do go that way, so that what their way in
leaves behind in a worker is seen. Celery keeps such messages in its worker: it gets some thousands.
"""
import datetime
import time

from messages import Template, flood, percentile
from probes import pss
from quiet import BULK_USER, wait_started
from systems import Daemon, Stock, stage

CHUNK = 1000
WARM_UP = 200
TIMEOUT = 600.0
#: Nobody lives to see it.
NEVER = "2999-01-01T00:00:00+00:00"
NEVER_MS = 32472144000000
#: Distinct times are spread over so many seconds, from so many seconds from now.
SPREAD, AHEAD = 20.0, 3.0
#: A call takes so long at most, seconds: all have to be made before the first one is due.
CALL = 0.03


def measure(app, sizes, say):
    """Memory, then lateness; Celery's memory beside it."""
    from bench.tasks import noop

    figures = {"messages": sizes.delayed, "intake": sizes.delayed_intake, "celery": stock_memory(app, sizes)}
    with stage(Daemon(), app) as setting:
        client = setting.client
        template = Template(client, noop, BULK_USER)
        due = template.text
        template.text = due.replace('"eta": null', f'"eta": "{NEVER}"')
        setting.start_warm(WARM_UP)
        before = workers(setting)
        begin = time.monotonic()
        flood(client, template, sizes.delayed_intake)
        wait_for(lambda: client.zcard("fairstalk:delayed") == sizes.delayed_intake)
        figures["intake_rate"] = sizes.delayed_intake / (time.monotonic() - begin)
        taken_in = workers(setting)
        at_once = sizes.delayed_at_once
        redis_before = client.info("memory")["used_memory"]
        keep(client, template, sizes.delayed - at_once - sizes.delayed_intake, NEVER_MS)
        template.text = due
        keep(client, template, at_once, NEVER_MS, name="atonce")
        redis_after = client.info("memory")["used_memory"]
        time.sleep(2 * 2.5)  # beats have seen them
        figures["memory"] = {"before": before, "taken_in": taken_in, "after": workers(setting)}
        figures["redis_per_message"] = (redis_after - redis_before) / (sizes.delayed - sizes.delayed_intake)
        say(f"delayed: workers {before / 2**20:.1f} MiB, with {sizes.delayed} messages {figures['memory']['after'] / 2**20:.1f} MiB")
        figures["late"] = lateness(call(setting, "late", sizes.delayed_tasks))
        say(f"delayed: late by {1000 * figures['late']['p99']:.1f} ms at p99")
        figures["down"] = due_while_down(setting, sizes.delayed_tasks)
        figures["at_once"] = all_at_once(setting, at_once)
        setting.worker.clear_away()
    return figures


def workers(setting):
    """Bytes of the workers together; nothing else of fairstalk sees a message that waits for its time."""
    return sum(pss(pid) for pid, kind in setting.kinds().items() if kind == "workers")


def wait_for(done):
    """Look seldom."""
    deadline = time.monotonic() + TIMEOUT
    while not done():
        assert time.monotonic() < deadline, "not within ten minutes"
        time.sleep(0.05)


def keep(client, template, count, due, name="bench"):
    """Put copies aside as a worker does."""
    kept = f"{template.queue}\0t:{BULK_USER}\0"
    for start in range(0, count, CHUNK):
        names = [f"{name}:1:{number}" for number in range(start, min(start + CHUNK, count))]
        with client.pipeline() as pipeline:
            pipeline.hset("fairstalk:delayed:messages", mapping={one: kept + template.copy()[1] for one in names})
            pipeline.zadd("fairstalk:delayed", dict.fromkeys(names, due))
            pipeline.execute()


def call(setting, name, count):
    """Tasks with distinct times: (due, start) of each, once all have started."""
    from bench.tasks import record
    from imgbackend.routing import get_queue_for_user

    ledger, first = setting.directory / name, time.time() + AHEAD + CALL * count
    dues = [first + SPREAD * number / count for number in range(count)]
    for number, due in enumerate(dues):
        eta = datetime.datetime.fromtimestamp(due, datetime.UTC)
        record.apply_async((number, number, str(ledger)), queue=get_queue_for_user(number), eta=eta)
    starts = wait_started(ledger, count)
    return [(due, starts[number]) for number, due in enumerate(dues)]


def lateness(pairs):
    """From the time to the first line of the task, seconds."""
    late = [start - due for due, start in pairs]
    assert min(late) >= 0, "before its time"
    return {"tasks": len(late), "p50": percentile(late, 0.5), "p99": percentile(late, 0.99), "max": max(late)}


def due_while_down(setting, count):
    """Everything is killed, the time of some tasks comes, a daemon starts: seconds from readiness to the last start."""
    from bench.tasks import record
    from imgbackend.routing import get_queue_for_user

    ledger, client = setting.directory / "down", setting.client
    eta = datetime.datetime.fromtimestamp(time.time() + AHEAD + CALL * count, datetime.UTC)
    before = client.zcard("fairstalk:delayed")
    for number in range(count):
        record.apply_async((number, number, str(ledger)), queue=get_queue_for_user(number), eta=eta)
    wait_for(lambda: client.zcard("fairstalk:delayed") == before + count)
    setting.worker.clear_away()
    assert time.time() < eta.timestamp(), "too early"
    wait_for(lambda: time.time() > eta.timestamp() + 1)
    setting.worker.notify.close()
    setting.start()
    ready = time.time() - time.monotonic() + setting.started + setting.wait_ready()
    starts = wait_started(ledger, count)
    return {"tasks": count, "first": min(starts.values()) - ready, "last": max(starts.values()) - ready}


def all_at_once(setting, count):
    """So many are due in the same millisecond: until all are in their lanes, and how long scripts take meanwhile."""
    client = setting.client
    client.config_set("slowlog-max-len", 100_000)
    client.config_set("slowlog-log-slower-than", 0)
    due = int((time.time() + AHEAD) * 1000)
    names = [f"atonce:1:{number}" for number in range(count)]
    for start in range(0, count, CHUNK):
        client.zadd("fairstalk:delayed", dict.fromkeys(names[start : start + CHUNK], due), xx=True)
    client.slowlog_reset()
    wait_for(lambda: client.zcount("fairstalk:delayed", "-inf", due) == 0)
    seconds = time.time() - due / 1000
    took = [one["duration"] / 1e6 for one in client.slowlog_get(100_000) if one["command"].startswith(b"EVALSHA")]
    assert client.zcard("fairstalk:dead") == 0
    scripts = {"calls": len(took), "p50": percentile(took, 0.5), "p99": percentile(took, 0.99), "max": max(took)}
    return {"messages": count, "seconds": seconds, "scripts": scripts}


def stock_memory(app, sizes):
    """Bytes of Celery's parent before and after it has taken in some thousands."""
    from bench.tasks import noop

    with stage(Stock(), app) as setting:
        template = Template(setting.client, noop, BULK_USER)
        template.text = template.text.replace('"eta": null', f'"eta": "{NEVER}"')
        setting.start_warm(WARM_UP)
        parent = [pid for pid, kind in setting.kinds().items() if kind == "parent"]
        before = sum(map(pss, parent))
        flood(setting.client, template, sizes.delayed_stock)
        wait_for(lambda: setting.client.hlen("unacked") == sizes.delayed_stock)
        return {"messages": sizes.delayed_stock, "before": before, "after": sum(map(pss, parent))}
