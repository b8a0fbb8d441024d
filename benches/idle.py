"""What a worker costs while there is nothing to do: CPU, as a share of one core, and work it gives to Redis."""
import time

import probes
from systems import Daemon, Stock, stage

WARM_UP = 40
SETTLE = 2.0


def measure(app, sizes, say):
    """Both systems, one after the other."""
    figures = {}
    for system in (Stock(), Daemon()):
        figures[system.key] = one_run(app, system, sizes.idle_seconds)
        say(f"idle: {system.title} {figures[system.key]['cpu_percent']:.3f} % of a core")
    return figures


def one_run(app, system, seconds):
    """Per second, over so many seconds."""
    with stage(system, app) as setting:
        setting.start_warm(WARM_UP)
        time.sleep(SETTLE)
        kinds = setting.kinds()
        redis = setting.redis.process.pid
        counters = probes.Counters(setting.client)
        before = {"at": time.monotonic(), "cpu": probes.cpu_by_kind(kinds), "redis": probes.cpu_seconds(redis)}
        counted_before = counters.read()
        time.sleep(seconds)
        counted = probes.difference(counters.read(), counted_before)
        elapsed = time.monotonic() - before["at"]
        cpu = probes.difference(probes.cpu_by_kind(kinds), before["cpu"])
        redis_cpu = probes.cpu_seconds(redis) - before["redis"]
    return {
        "seconds": elapsed,
        "cpu_percent": 100 * sum(cpu.values()) / elapsed,
        "by_kind": {kind: 100 * used / elapsed for kind, used in cpu.items()},
        "redis_cpu_percent": 100 * redis_cpu / elapsed,
        "commands": counted["commands"] / elapsed,
        "requests": counted["requests"] / elapsed,
    }
