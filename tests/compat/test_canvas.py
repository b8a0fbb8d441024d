"""Canvases, with everything that can happen to a part of one."""
import compat_tasks as t
import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult, GroupResult
from stage import PATIENCE, since

from harness.waiting import eventually


def get(signature, **options):
    """What a canvas comes to."""
    return signature.apply_async(**options).get(timeout=PATIENCE)


def test_groups_and_chains(worker):
    """Chains in groups, groups in chains."""
    assert get(group(t.add.s(n, n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert get(chain(t.add.s(1, 2), t.add.s(3), t.add.s(4))) == 10
    assert get(group(chain(t.add.s(n, 1), t.add.s(10)) for n in range(3))) == [11, 12, 13]
    assert get(t.add.s(1, 1) | group(t.add.s(1), t.add.s(2))) == [3, 4]
    assert get(t.add.s(1, 1) | group(t.add.s(1), t.add.s(2)) | t.total.s() | t.add.s(100)) == 107
    assert get(chain(t.add.s(1, 1), t.same.si("immutable"), t.collect.s("more"))) == ["immutable", "more"]


@since(5, 7)
def test_a_saved_group(worker):
    """It is found again, with its results."""
    saved = group(t.add.s(n, 1) for n in range(4)).apply_async()
    saved.save()
    restored = GroupResult.restore(saved.id)
    assert restored.get(timeout=PATIENCE) == [1, 2, 3, 4]
    assert restored.completed_count() == 4 and restored.successful()


@since(5, 4)
def test_a_group_in_a_group(worker):
    """Its results are in line with the others'."""
    assert get(group(group(t.add.s(1, 1), t.add.s(2, 2)), t.add.s(3, 3))) == [2, 4, 6]


def test_chords(worker):
    """One after the other, of one part, of none, in each other."""
    assert get(chord([t.add.s(n, 1) for n in range(10)], t.total.s())) == 55
    assert get(chord([t.add.s(1, 1)], t.total.s())) == 2
    assert get(chord(group([]), t.total.s())) == 0
    inner = chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s())
    assert get(chord([inner, t.add.s(10, 10)], t.total.s())) == 26
    deep = chord([chord([inner.clone(), t.add.s(1, 0)], t.total.s()), t.add.s(1, 1)], t.total.s())
    assert get(deep) == 9
    body = t.total.s() | t.add.s(1) | group(t.add.s(1), t.add.s(2))
    assert get(chord([t.add.s(1, 1), t.add.s(2, 2)], body)) == [8, 9]
    in_header = chord([chain(t.add.s(1, 1), t.add.s(1)), group(t.add.s(1, 1), t.add.s(2, 2))], t.collect.s())
    (values,) = get(in_header)
    assert values[0] == 3 and sorted(values[1:]) == [2, 4]  # a group in a header has no order in stock Celery either
    assert get(chord(group(t.add.s(1, 1), t.add.s(2, 2)), chord([t.total.s()], t.total.s()))) == 6


def test_order_of_a_header(worker):
    """The body sees results in the order of the header, whoever ended first."""
    late = worker.directory / "late"
    canvas = chord([t.wait_for.s(str(late)), t.same.s("b"), t.same.s("c")], t.collect.s()).apply_async()
    eventually(lambda: all(part.ready() for part in canvas.parent.results[1:]), PATIENCE)
    late.touch()
    ((first, *others),) = canvas.get(timeout=PATIENCE)
    assert isinstance(first, int) and others == ["b", "c"]


def test_a_failure_in_a_header(worker):
    """The body fails with ChordError, its errback is told, and the other parts keep their results."""
    body = t.total.s().on_error(t.told.s("chord-errors"))
    broken = chord([t.add.s(1, 1), t.fail.s("header"), t.add.s(2, 2)], body).apply_async()
    with pytest.raises(ChordError, match=r"raised Broken\('header'\)") as caught:
        AsyncResult(broken.id).get(timeout=PATIENCE)
    assert broken.parent.results[1].id in str(caught.value)
    assert any("Broken('header')" in note for note in worker.notes("chord-errors", 1))
    assert [part.get(timeout=PATIENCE) for part in broken.parent.results[::2]] == [2, 4]
    with pytest.raises(t.Broken, match="header"):
        broken.get(timeout=PATIENCE)


def test_a_failure_in_a_nested_header(worker):
    """The inner body fails when a part of its header does. (Celery does not pass that on to an outer chord.)"""
    inner = chord([t.add.s(1, 1), t.fail.s("inner")], t.total.s())
    broken = chord([inner, t.add.s(1, 1)], t.total.s()).apply_async()
    with pytest.raises(ChordError, match=r"Broken\('inner'\)"):
        AsyncResult(broken.parent.results[0].id).get(timeout=PATIENCE)


def test_a_killed_part_of_a_header(worker):
    """A part whose process is killed, and one that is over its time limit, fail the body; nobody waits for ever."""
    killed = chord([t.add.s(1, 1), t.die.s()], t.total.s()).apply_async()
    with pytest.raises(ChordError, match="WorkerLostError"):
        AsyncResult(killed.id).get(timeout=PATIENCE)
    hanging = chord([t.add.s(1, 1), t.hang.s().set(time_limit=1)], t.total.s()).apply_async()
    with pytest.raises(ChordError, match="TimeLimitExceeded"):
        AsyncResult(hanging.id).get(timeout=PATIENCE)


def test_a_failure_in_a_body(worker):
    """A chord whose body fails, in a chain: what follows is not run, the errback is told once."""
    canvas = chord([t.add.s(1, 1), t.add.s(2, 2)], t.fail.si("body").on_error(t.told.s("body-errors")))
    broken = chain(canvas, t.noted.si("never", "after-body")).apply_async()
    with pytest.raises(t.Broken, match="body"):
        broken.get(timeout=PATIENCE)
    assert len(worker.notes("body-errors", 1)) == 1
    assert worker.client.llen("after-body") == 0


def test_errbacks(worker):
    """Of a task, a chain and a group, of a failure, of a lost process and of one over its limit."""
    failed = t.fail.apply_async(("told",), link_error=t.told.s("errbacks"))
    assert worker.notes("errbacks", 1) == [f"{failed.id} Broken('told')"]
    chain(t.add.s(1, 1), t.fail.si("link"), t.add.s(1)).on_error(t.told.s("chain-errors")).apply_async()
    assert "Broken('link')" in worker.notes("chain-errors", 1)[0]
    group(t.fail.s(name).on_error(t.told.s("group-errors")) for name in ("one", "two")).apply_async()
    assert sorted(note.split(" ")[1] for note in worker.notes("group-errors", 2)) == ["Broken('one')", "Broken('two')"]
    t.die.apply_async(link_error=t.told.s("lost-errors"))
    assert "WorkerLostError" in worker.notes("lost-errors", 1)[0]
    t.hang.apply_async(link_error=t.told.s("limit-errors"), time_limit=1)
    assert "TimeLimitExceeded" in worker.notes("limit-errors", 1)[0]


@since(5, 7)
def test_errbacks_of_both_kinds(worker):
    """One that wants the exception, and one that wants the id alone."""
    failed = t.fail.apply_async(("told",), link_error=[t.told.s("new-errbacks"), t.told_id.s("old-errbacks")])
    assert worker.notes("new-errbacks", 1) == [f"{failed.id} Broken('told')"]
    assert worker.notes("old-errbacks", 1) == [failed.id]


def test_links(worker):
    """Callbacks of a task, and of a callback."""
    linked = t.add.apply_async((1, 2), link=[t.add.s(10).on_error(t.told.s("no")), t.noted.s("links")])
    assert linked.get(timeout=PATIENCE) == 3
    assert worker.notes("links", 1) == ["3"]
    (children,) = eventually(lambda: linked.children, PATIENCE)
    assert sorted(children.get(timeout=PATIENCE)) == [3, 13]


def test_replace(worker):
    """A task that gives way to a task, a chain, a group, a chord, one that fails, and one that gives way again."""
    assert get(t.replaced.s("task", 1, 2)) == 3
    assert get(t.replaced.s("chain", 1, 2)) == 103
    assert get(t.replaced.s("group", 1, 2)) == [2, 3]
    assert get(t.replaced.s("chord", 1, 2)) == 5
    assert get(t.replaced.s("again", 1, 2)) == 3
    with pytest.raises(t.Broken, match="replacement"):
        get(t.replaced.s("fail"))
    assert get(chain(t.replaced.s("task", 1, 2), t.add.s(10))) == 13
    assert get(chord([t.replaced.s("task", 1, 2), t.add.s(1, 1)], t.total.s())) == 5
    assert get(chain(t.replaced.s("group", 1, 2), t.total.s())) == 5


def test_a_chord_that_grows(worker):
    """`add_to_chord` while the header runs."""
    assert get(chord([t.grown.s(20, 1), t.add.s(1, 1)], t.total.s())) == 23


def test_retries_in_a_canvas(worker):
    """A part that is tried again is waited for."""
    assert get(chord([t.try_again.s(2), t.add.s(1, 1)], t.total.s())) == 4
    assert get(chain(t.try_again.s(1), t.add.s(10))) == 11
    broken = chord([t.try_again.s(5), t.add.s(1, 1)], t.total.s()).apply_async()
    with pytest.raises(ChordError, match="Broken"):
        AsyncResult(broken.id).get(timeout=PATIENCE)


def test_map_starmap_chunks(worker):
    """Many calls in one task."""
    assert get(t.same.map([1, 2, 3])) == [1, 2, 3]
    assert get(t.add.starmap([(1, 1), (2, 2)])) == [2, 4]
    assert get(t.add.chunks([(n, n) for n in range(5)], 2).group()) == [[0, 2], [4, 6], [8]]


def test_revoked_and_expired_parts(worker):
    """A part that is not run fails what waits for it."""
    expired = chord([t.add.s(1, 1), t.add.s(2, 2).set(expires=-1)], t.total.s()).apply_async()
    with pytest.raises(ChordError, match="expired"):
        AsyncResult(expired.id).get(timeout=PATIENCE)


def test_ids(worker):
    """Root, parent and group, as each part sees them."""
    parts = group(t.about.s(), t.about.s()).apply_async()
    first, second = parts.get(timeout=PATIENCE)
    assert {first["group"], second["group"]} == {parts.id}
    assert [first["group_index"], second["group_index"]] == [0, 1]
    canvas = chain(t.same.si(1), t.about.si()).apply_async()
    last = canvas.get(timeout=PATIENCE)
    assert last["root"] == last["parent"] == canvas.parent.id
    assert (last["correlation"], last["retries"], last["eager"]) == (canvas.id, 0, False)


def test_options_of_a_call(worker):
    """Custom headers, `shadow` and a priority reach the task and do no harm; each call has its own headers or none."""
    for value in ("7", "8"):
        seen = get(t.about.s(1), headers={"x-tenant": value}, shadow="another.name", priority=3)
        assert seen["headers"] == {"x-tenant": value} and seen["args"] == [1]
    assert get(t.about.s(1))["headers"] is None
    assert get(t.about.s(1), headers={"x-other": "9"})["headers"] == {"x-other": "9"}
    assert seen["routing_key"] == "celery"
