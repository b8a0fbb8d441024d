"""What an application hangs on the inside of Celery's worker is named at the start, and does no harm."""
import compat_tasks as t
from stage import PATIENCE

KINDS = ["fairstalk"]
PLUGIN = "extended"


def test_what_has_no_effect_is_named(worker):
    """One warning for each kind, with names, in the log and by `fairstalk check`; tasks run all the same."""
    wanted = [
        "bootsteps are not run: extended.Gauge, extended.Probe",
        "request classes of tasks' own are not used: extended.by_request",
        "strategy classes of tasks' own are not used: extended.by_strategy",
        "worker_consumer is not used: extended:OwnConsumer",
        "the signal heartbeat_sent is never sent, but the application listens to it",
    ]
    log = worker.worker.log()
    assert [text for text in wanted if f"WARN  supervisor: {text}" not in log] == []
    checked = worker.worker.call("check")
    assert [text for text in wanted if text not in checked.stdout + checked.stderr] == []
    assert t.add.delay(1, 2).get(timeout=PATIENCE) == 3
