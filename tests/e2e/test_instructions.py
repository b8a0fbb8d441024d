"""What a message costs in instructions, by callgrind: the machine's mood has no part in it.

The figures in `instructions.json` were recorded with the versions that stand there. With others of Rust or of Redis they may be
different; whoever changes those, or makes a message dearer or cheaper on purpose, records anew: FAIRSTALK_RECORD=1, with `-n 0`.
"""
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ROOT
from harness.daemon import binary
from harness.redis_server import RedisServer
from harness.waiting import eventually

RECORDED = Path(__file__).with_name("instructions.json")
#: Share by which a figure may differ from the recorded one.
TOLERANCE = 0.10
CALLGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]


@pytest.fixture(autouse=True)
def valgrind():
    """There has to be one, of the processor these were recorded with."""
    assert shutil.which("valgrind"), "valgrind is missing: sh tests/setup.sh valgrind"
    if platform.machine() != "x86_64":
        pytest.skip("the figures are those of x86_64")


def collected(text):
    """Instructions of a program that has ended."""
    return int(re.findall(r"Collected : (\d+)", text)[-1])


def compare(name, found):
    """The figure is the recorded one, about; or is recorded."""
    recorded = json.loads(RECORDED.read_text())
    if os.environ.get("FAIRSTALK_RECORD"):
        RECORDED.write_text(json.dumps({**recorded, name: round(found)}, indent=2) + "\n")
        return
    most, least = recorded[name] * (1 + TOLERANCE), recorded[name] * (1 - TOLERANCE)
    said = f"{name}: {found:.0f} instructions a message, recorded are {recorded[name]} ({recorded['versions']})"
    assert least <= found <= most, said + "; if that is meant, FAIRSTALK_RECORD=1 records it"


def test_what_a_worker_thinks_about_a_message():
    """Reading it twice, whose it is, what is to be done with it, the frame for a runner, a result (`benches/probe/work.rs`)."""

    def instructions(count):
        command = [*CALLGRIND, binary().parent / "examples" / "probe", "work", str(count)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return collected(ended.stderr)

    few, more = 20, 140
    compare("worker", (instructions(more) - instructions(few)) / (more - few))


@pytest.mark.parametrize("batch", [1, 16])
def test_what_a_claim_and_its_settlement_cost_redis(monkeypatch, batch):
    """The step script, called as a worker calls it; so many messages of ten tenants are claimed and settled in a step."""
    monkeypatch.syspath_prepend(str(ROOT / "benches"))
    from claim_cost import Owner

    def instructions(steps):
        with RedisServer("--hz", "1", before=CALLGRIND) as server:
            owner = Owner(server)
            owner.file(1000, 10)
            for _ in range(steps):
                assert len(owner.step(batch)[4]) == 5 * batch
            with server.client() as client:
                client.shutdown(nosave=True)
            eventually(lambda: server.process.poll() is not None)
            return collected(server.log())

    few, more = (10, 110) if batch == 1 else (2, 22)
    compare(f"redis, {batch} in a step", (instructions(more) - instructions(few)) / (more - few) / batch)
