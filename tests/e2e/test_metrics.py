"""`fairstalk metrics`: figures for Prometheus, asked of Redis."""
import re

from harness.waiting import eventually

from bench import tasks
from imgbackend.routing import get_queue_for_user

NOW = {"drain_timeout": "0s"}
BULK = 1
QUEUE = get_queue_for_user(BULK)
SAMPLE = re.compile(r'fairstalk_(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)+)\})? ([0-9.e+-]+)')


def scraped(daemon, *arguments):
    """(name, labels) -> value; every line has to be a sample, or the help or the kind of the samples behind it."""
    done = daemon.call("metrics", *arguments)
    assert done.returncode == 0, done.stderr
    samples, family = {}, None
    for line in done.stdout.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == family and kind == ("counter" if name.endswith("_total") else "gauge"), line
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert "fairstalk_" + name == family, line
            assert (name, labels) not in samples, line
            samples[name, labels] = float(value)
    return samples


def test_what_waits_runs_and_ran_is_told(celery_app, fairstalk, ledger):
    """Two tasks run, four wait, one is dead, one has failed; a queue is paused."""
    daemon = fairstalk(workers={"processes": 1, "concurrency": 2, **NOW})
    tasks.fail.apply_async(("why",), queue="queue_2")
    celery_app.send_task("no.such", queue="queue_2")
    eventually(lambda: scraped(daemon)["messages", 'place="dead"'] == 1)
    for n in range(6):
        tasks.record.apply_async((BULK, n, str(ledger), 60), queue=QUEUE)
    ledger.wait("start", 2)
    assert daemon.call("pause", "--queue", "queue_2").returncode == 0

    def told():
        samples = scraped(daemon, "--tenants", 1)
        of_worker = {name: value for (name, labels), value in samples.items() if (labels or "").startswith("worker=")}
        done = of_worker["worker_done_total"] >= 2 and of_worker["worker_busy"] == 2
        return (samples, of_worker) if done and samples.get(("tenant_waiting", f'tenant="{BULK}"')) == 4 else None

    samples, of_worker = eventually(told)
    assert (of_worker["worker_slots"], of_worker["worker_failed_total"]) == (2, 2)
    assert samples["queue_messages", f'queue="{QUEUE}"'] == 4
    assert [labels for (name, labels), value in samples.items() if name == "queue_paused" and value] == ['queue="queue_2"']
    assert samples["messages", 'place="claimed"'] == 2 and samples["tenants", 'state="waiting"'] == 1
    assert samples["oldest_seconds", None] >= 0 and ("wait_seconds", 'quantile="0.99"') in samples
    assert (samples["tenancy_lost", None], samples["tenancy_answers_total", None]) == (0, 0)
    assert not any(name.startswith("tenant_") for name, _ in scraped(daemon)), "nobody by name unless asked for"
    daemon.stop()
    samples = scraped(daemon)
    assert samples["queue_messages", f'queue="{QUEUE}"'] == 6 and samples["messages", 'place="claimed"'] == 0
    assert not any(name.startswith("worker_") for name, _ in samples)
