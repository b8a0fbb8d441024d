"""What nobody listens to costs nothing."""
import compat_tasks as t
from stage import PATIENCE

from harness.waiting import eventually

KINDS = ["fairstalk"]
PLUGIN = "probed"
SLOTS = 1


def made(worker):
    """Of tasks; the rest belongs to processes."""
    return [name for name in worker.client.lrange("made", 0, -1) if name.startswith("task_") or name == "request"]


def test_a_task_makes_no_signal(worker):
    """None is sent for a task that works, and no request object is made. An expired one shows that both would be seen."""
    assert [t.add.delay(n, 1).get(timeout=PATIENCE) for n in range(3)] == [1, 2, 3]
    assert made(worker) == []
    t.add.apply_async((1, 2), expires=-1)
    eventually(lambda: "task_revoked" in made(worker), PATIENCE)
    assert made(worker) == ["request", "task_revoked"]
