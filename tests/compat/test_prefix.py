"""Prefixes of keys: one of the broker's, another of the results'."""
import compat_tasks as t
import pytest
from celery import chain, chord
from celery.exceptions import ChordError
from celery.result import AsyncResult
from stage import PATIENCE, since

SETTINGS = {
    "broker_transport_options": {"global_keyprefix": "app:"},
    "result_backend_transport_options": {"global_keyprefix": "results:"},
}
SECTIONS = {"broker": {"key_prefix": "app:"}}


@since(5, 5)
def test_results_and_chords_under_a_prefix(worker):
    """Every key has one of the two prefixes; results, retries, chains, chords and lost tasks work."""
    done = t.add.delay(1, 2)
    assert done.get(timeout=PATIENCE) == 3
    assert worker.client.exists(f"results:celery-task-meta-{done.id}")
    assert t.try_again.delay(1).get(timeout=PATIENCE) == 1
    assert chain(t.add.s(1, 2), t.add.s(3)).apply_async().get(timeout=PATIENCE) == 6
    assert chord([t.add.s(n, 1) for n in range(4)], t.total.s()).apply_async().get(timeout=PATIENCE) == 10
    killed = chord([t.add.s(1, 1), t.die.s()], t.total.s()).apply_async()
    with pytest.raises(ChordError):
        AsyncResult(killed.id).get(timeout=PATIENCE)
    assert [key for key in worker.client.keys() if not key.startswith(("app:", "results:"))] == []
