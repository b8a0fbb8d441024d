"""What a drain asks of Redis, counted: commands and round trips for each task, whatever the machine's mood."""
import pytest
from harness import ROOT
from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

COUNT = 3000
USERS = 50
#: So that also a machine that does other things at the same time finds the tasks short.
AHEAD = {"processes": 2, "concurrency": 2, "claim_ahead": "50ms"}


@pytest.fixture
def instruments(monkeypatch, client, redis):
    """How many messages are left, and what was asked of Redis, our own questions not counted."""
    monkeypatch.syspath_prepend(str(ROOT / "benches"))
    from messages import IN_LANES, users_of_queues
    from probes import Counters, Gauge

    gauge = Gauge(redis.socket, users_of_queues(), ["unacked"], [IN_LANES])
    yield gauge, Counters(client, gauge)
    gauge.close()


@pytest.mark.parametrize(
    ("task", "requests", "commands"), [(tasks.noop, 0.25, 2), (tasks.noop_result, 0.3, 4.5)],
    ids=["without result", "with result"],
)
def test_a_short_task_costs_few_commands_and_hardly_a_round_trip(celery_app, fairstalk, instruments, task, requests, commands):
    """Everything is in it: looks into the lists, filings, claims, settlements, results, beats, and the start of the daemon."""
    gauge, counters = instruments
    for number in range(COUNT):
        enqueue_task_to_user_queue(task, number % USERS, user_id=number % USERS)
    before = counters.read()
    fairstalk(workers=AHEAD)
    eventually(lambda: gauge.read()[1] == 0, 120)
    after = counters.read()
    of_task = {key: (after[key] - before[key]) / COUNT for key in after}
    assert 1 / 64 <= of_task["scripts"] <= of_task["requests"] < requests, of_task
    assert of_task["commands"] < commands, of_task
