"""Results as messages (`rpc://`): nothing of it is the worker's, all of it Celery's."""
import compat_tasks as t
import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import chain, group
from stage import PATIENCE

SETTINGS = {"result_backend": "rpc://"}


def test_results(worker):
    """Results, groups, chains; failures of the task, and of what can't report any more."""
    assert t.add.delay(1, 2).get(timeout=PATIENCE) == 3
    assert group(t.add.s(n, n) for n in range(5)).apply_async().get(timeout=PATIENCE) == [0, 2, 4, 6, 8]
    assert chain(t.add.s(1, 2), t.add.s(3)).apply_async().get(timeout=PATIENCE) == 6
    with pytest.raises(t.Broken, match="told"):
        t.fail.delay("told").get(timeout=PATIENCE)
    with pytest.raises(WorkerLostError):
        t.die.delay().get(timeout=PATIENCE)
    with pytest.raises(TimeLimitExceeded):
        t.hang.apply_async(time_limit=1).get(timeout=PATIENCE)
    assert t.try_again.delay(2).get(timeout=PATIENCE) == 2
    assert worker.client.keys("celery-task-meta-*") == []
