"""The benchmark runs. How fast anything is, is not for a test to say."""
import json
import subprocess
import sys

import pytest
from harness import ROOT
from harness.daemon import binary


@pytest.fixture
def bench(monkeypatch):
    """Run benches/bench.py with these arguments and the program under test; returns what it prints."""
    monkeypatch.setenv("FAIRSTALK_BIN", str(binary()))

    def run(*arguments):
        command = [sys.executable, ROOT / "benches" / "bench.py", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


def test_quick_drain(bench):
    """Both systems drain both kinds of tasks, checked by the benchmark itself, and are compared."""
    drain = json.loads(bench("--quick", "--only", "drain", "--json"))["drain"]
    assert set(drain) == {"noop", "noop_result"}
    for systems in drain.values():
        assert systems["celery"]["ratio"] == 1
        assert systems["fairstalk"]["ratio"] > 0
        assert sum(systems["fairstalk"]["cpu_usec"].values()) > 0


def test_the_page_is_made_from_the_history(bench, monkeypatch):
    """`docs/benchmarks.md` is what the template and the last line of the history make."""
    monkeypatch.syspath_prepend(str(ROOT / "benches"))
    import report

    if not report.HISTORY.exists():
        pytest.skip("nothing was measured yet")
    assert report.PAGE.read_text() == report.page(report.last())
