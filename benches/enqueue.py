"""How many messages one process enqueues in a second: `fairstalk enqueue --count`, the library, and Celery.

From the start of the program to its end, so connecting is in it. Redis is empty before, and has as many messages after.
"""
import statistics
import subprocess
import time

from harness import example_app
from harness.daemon import clean_environment, toml
from harness.redis_server import RedisServer
from systems import probe, program

USER = 7
TASK = "bench.tasks.noop"


def measure(app, sizes, say):
    """Messages per second, by turns; medians."""
    from bench.tasks import noop
    from imgbackend.routing import enqueue_task_to_user_queue, get_queue_for_user

    rates = {"celery": [], "command": [], "library": []}
    with RedisServer() as redis, redis.client() as client:
        config = redis.directory / "fairstalk.toml"
        config.write_text(toml({"broker": {"url": redis.url}}))
        example_app.connect(app, example_app.environment(redis, redis.directory))

        def call(count):
            for _ in range(count):
                enqueue_task_to_user_queue(noop, USER, user_id=USER)

        def run(*words):
            subprocess.run([*map(str, words)], check=True, stdout=subprocess.DEVNULL, env=clean_environment())

        ways = {
            "celery": (sizes.enqueued_stock, call),
            "command": (sizes.enqueued, lambda count: run(
                program(), "--config", config, "enqueue", TASK, "--user", USER, "--kwargs", '{"user_id": 7}', "--count", count
            )),
            "library": (sizes.enqueued, lambda count: run(probe(), "publish", config, count)),
        }
        for _ in range(sizes.repeat):
            for key, (count, way) in ways.items():
                client.flushall()
                begin = time.monotonic()
                way(count)
                rates[key].append(count / (time.monotonic() - begin))
                assert client.llen(get_queue_for_user(USER)) == count, f"{key} enqueued another number than {count}"
        example_app.disconnect(app)
    figures = {key: {"messages": ways[key][0], "rate": statistics.median(of), "rates": of} for key, of in rates.items()}
    say("enqueue: " + ", ".join(f"{key} {figure['rate']:.0f}/s" for key, figure in figures.items()))
    return figures

