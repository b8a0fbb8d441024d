"""A stop ends, whatever the application does at it."""
import compat_tasks as t
from stage import PATIENCE

KINDS = ["fairstalk"]
PLUGIN = "lasting"
SLOTS = 1


def test_receivers_that_do_not_end(worker):
    """Both are called, both are cut off, nothing is left, and the exit is a clean one."""
    assert t.add.delay(1, 2).get(timeout=PATIENCE) == 3
    assert worker.stop() == 0
    assert worker.client.lrange("lasting", 0, -1) == ["runner", "worker"]
    assert worker.worker.left() == []
