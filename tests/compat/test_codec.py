"""Messages and results are read, written and shown as kombu and Celery do it, though not by them."""
import importlib
import json
import sys
import types
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from celery import Celery
from celery.app import trace
from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError
from kombu.serialization import loads, register, registry
from kombu.utils import json as kombu_json

SOURCES = Path(__file__).parents[2] / "src" / "runner" / "python"
ACCEPT = {"application/json"}
BODIES = [
    b'[[1, 2.5, true, null], {"a": {"b": ["\\u00e4", "\\n"]}}, {"callbacks": null}]', "[[\"ä\"], {}, {}]".encode(),
    b' [[], {}, {}]', b'[[], {}, {}] ', b'\xef\xbb\xbf[[], {}, {}]', b'', b'[', b'[] x', b'\xff', b'NaN', b'[' * 100_000,
    b'[{"__type__": "decimal", "__value__": "1.5"}, {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"}]',
    b'{"__type__": "decimal", "__value__": "none"}', b'{"__type__": "unheard", "__value__": 1}', b'{"a": 1, "a": 2}',
    b'{"\\u005f_type__": "decimal", "__value__": "1.5"}', b'"\t"', b'123456789012345678901234567890', b'-Infinity',
]
VALUES = [
    None, 0, -1.5, float("nan"), "ä\n'", [1, (2, 3)], {1: "a", None: 2, "b": True}, Decimal("1.50"), UUID(int=7), b"bytes",
    b"\xff", datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc), {"nested": [{"deep": Decimal(1)}]}, object(), {(1, 2): 3},
]


@pytest.fixture(scope="module")
def runner():
    """The modules of a runner, which are in the binary otherwise."""
    package = types.ModuleType("fairstalk_runner")
    package.__path__ = [str(SOURCES)]
    sys.modules["fairstalk_runner"] = package
    yield lambda name: importlib.import_module("fairstalk_runner." + name)
    for name in [name for name in sys.modules if name.startswith("fairstalk_runner")]:
        del sys.modules[name]


@pytest.fixture
def registered():
    """Whatever a test registers is forgotten after it."""
    before = [dict(known) for known in (registry._encoders, registry._decoders)]
    yield
    for known, old in zip((registry._encoders, registry._decoders), before):
        known.clear()
        known.update(old)


def outcome(call, *args, **kwargs):
    """What it returns, or what it raises, as something to compare."""
    try:
        return "returned", repr(call(*args, **kwargs))
    except Exception as exc:
        return type(exc), str(exc)[:100]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_are_read_as_kombu_reads_them(runner, body):
    """The same values, and the same errors for those that are none."""
    codec = runner("codec")
    for content_type in ("application/json", "application/data", "application/x-python-serialize"):
        for accept in (ACCEPT, set()):
            read = outcome(codec.loads, body, content_type, "utf-8", accept)
            assert read == outcome(loads, body, content_type, "utf-8", accept=accept)


def test_what_is_registered_is_asked(runner, registered):
    """An application may read and write JSON in a way of its own."""
    codec = runner("codec")
    backend = Celery("own", backend="redis://").backend
    encode = codec.encoder(backend)
    register("json", lambda value: "own", lambda text: "read", "application/json", "utf-8")
    assert codec.loads(b"[]", "application/json", "utf-8", ACCEPT) == "read"
    assert encode({"result": 1}) == "own"


def test_results_are_written_as_celery_writes_them(runner):
    """The same text, and the same error for what can't be written. What has a way of its own keeps it."""
    codec = runner("codec")
    app = Celery("results", backend="redis://")
    encode = codec.encoder(app.backend)
    assert encode != app.backend.encode
    circle = []
    circle.append(circle)
    for value in [*VALUES, circle]:
        meta = {"status": "SUCCESS", "result": value, "traceback": None, "children": [], "task_id": "id"}
        assert outcome(encode, meta) == outcome(app.backend.encode, meta)
    with pytest.raises(EncodeError):
        encode({"result": object()})
    for settings in ({"result_serializer": "pickle"}, {"result_serializer": "yaml"}):
        other = Celery("others", backend="redis://")
        other.conf.update(settings)
        assert codec.encoder(other.backend) == other.backend.encode


def test_a_kombu_to_come_is_asked(runner, monkeypatch):
    """If it reads or writes in another way than is known, it does so itself."""
    runner("codec")
    monkeypatch.setattr(kombu_json.loads, "__defaults__", (json.loads, False, kombu_json.object_hook))
    monkeypatch.setattr(kombu_json.dumps, "__defaults__", (json.dumps, json.JSONEncoder, None))
    codec = importlib.reload(sys.modules["fairstalk_runner.codec"])
    backend = Celery("own", backend="redis://").backend
    assert codec.encoder(backend) == backend.encode
    assert outcome(codec.loads, b"[1]", "application/json", "utf-8", ACCEPT) == outcome(
        loads, b"[1]", "application/json", "utf-8", accept=ACCEPT)


def test_what_tasks_return_is_shown_as_celery_shows_it(runner, monkeypatch):
    """With the same limits and the same marks of what was left out."""
    monkeypatch.setattr(trace, "saferepr", saferepr)
    runner("shortcuts").show_plainly()
    assert trace.saferepr is not saferepr
    for value in [*VALUES, True, "", "'" * 20, 'both \' and "', "x" * 2000, "word " * 500, 10**30, [["a"] * 900]]:
        for limit in (None, 0, 1, 5, 10, 46, 1024):
            assert trace.saferepr(value, limit) == saferepr(value, limit), (value, limit)
