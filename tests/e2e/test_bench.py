"""The benchmarks run. How fast anything is, is not for a test to say."""
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
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@pytest.fixture
def bench_modules(monkeypatch):
    """The modules of benches/ can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "benches"))


def test_quick_drain(bench):
    """Both systems drain both kinds of tasks, checked by the benchmark itself, and are compared."""
    drain = json.loads(bench("--quick", "--only", "drain", "--json"))["drain"]
    assert set(drain) == {"noop", "noop_result"}
    for systems in drain.values():
        assert systems["celery"]["ratio"] == 1
        assert systems["fairstalk"]["ratio"] > 0
        assert sum(systems["fairstalk"]["cpu_usec"].values()) > 0


def test_quick_waits(bench):
    """Every call of every quiet user is counted once, under each system, with users in and beside the flooded queue."""
    systems = json.loads(bench("--quick", "--only", "quiet", "--json"))["quiet"]
    systems = {key: systems[key] for key in ("celery", "celery_best", "fairstalk", "stagger")}
    for figures in systems.values():
        assert figures["shared"]["tasks"] > 0 and figures["others"]["tasks"] > 0
        assert figures["ratio"] > 0
    seconds = {key: [point[0] for point in figures["over_time"]["shared"]] for key, figures in systems.items()}
    assert all(of[0] < 0 <= of[-1] for of in seconds.values()), seconds


def test_quick_shares_and_costs(bench):
    """Parts that have sizes of their own run, and their tables are made."""
    parts = ["million", "newcomer", "cost"]
    printed = bench("--quick", *(word for part in parts for word in ("--only", part)))
    assert all(f"**{part}**" in printed for part in parts), printed


def test_quick_delayed(bench):
    """Everything that is delayed starts, none before its time; the benchmark itself checks that."""
    figures = json.loads(bench("--quick", "--only", "delayed", "--json"))["delayed"]
    assert figures["late"]["tasks"] == figures["down"]["tasks"] == 50
    assert figures["at_once"]["messages"] == 1000 and figures["at_once"]["scripts"]["calls"] >= 10


def test_quick_events(bench):
    """Both systems are drained with events and without."""
    figures = json.loads(bench("--quick", "--only", "events", "--json"))["events"]
    assert set(figures) == {"celery_off", "celery_on", "fairstalk_off", "fairstalk_on"}
    assert all(of["cpu_usec"]["python"] + of["cpu_usec"]["parent"] > 0 for of in figures.values())


def test_quick_limits(bench):
    """What is compared with the most there can be: each way has done as many as it should, the benchmark checks."""
    parts = ["enqueue", "commands", "builtin"]
    figures = json.loads(bench("--quick", "--json", *(word for part in parts for word in ("--only", part))))
    assert {key: of["messages"] for key, of in figures["enqueue"].items()} == {"celery": 100, "command": 2000, "library": 2000}
    assert set(figures["commands"]) == {"tasks", "loop", "loops", "fairstalk"}
    builtin = figures["builtin"]
    # As many calls for each message as in the drain that was recorded, about: else it wasn't the same that was repeated.
    assert builtin["ceiling"]["rate"] > 0 and builtin["1x4"]["scripts"] < 0.2


def test_quick_starts_and_growth(bench):
    """Every point of every row is measured; a killed runner's task runs again."""
    figures = json.loads(bench("--quick", "--json", "--only", "startup", "--only", "growth"))
    assert set(figures["startup"]) == {"celery", "fairstalk", "without_python", "application", "replaced"}
    assert len(figures["startup"]["replaced"]["runs"]) == 2
    points = {row: [amount for amount, _ in of] for row, of in figures["growth"].items()}
    payloads = {"payload": [100, 20_000], "payload_stock": [100, 20_000]}
    assert points == {"waiting": [1500, 3000], "tenants": [10, 300], **payloads, "processes": [1, 2]}
    assert all(rate > 0 for of in figures["growth"].values() for _, rate in of)


def test_the_picture_of_growth(bench_modules):
    """One spot for each point, whatever the figures are."""
    from xml.etree import ElementTree

    import growth_tables

    rows = {row: [[10**place, 1234.5 / place] for place in range(1, 4)] for row in growth_tables.ROWS}
    picture = ElementTree.fromstring(growth_tables.svg(rows))
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 12
    assert growth_tables.growth(rows).count("\n") == 13
    beside = {**rows, "payload_stock": [[10**place, 100 / place] for place in range(1, 4)]}
    picture = ElementTree.fromstring(growth_tables.svg(beside))
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 15
    lines = growth_tables.growth(beside).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and sum(line.count(" 33 % ") for line in lines) == 5


def test_waits_with_and_without_stagger(bench_modules):
    """Lines of the history from before there was the key still make tables and a picture; later ones have more of both."""
    import fairness_tables
    import picture
    import report

    older = report.last(*report.fairness_tables.PARTS)
    older["quiet"].pop("stagger", None)
    later = {**older, "quiet": {**older["quiet"], "stagger": older["quiet"]["fairstalk"]}}

    def made(run):
        table, drawn = fairness_tables.quiet(run["quiet"]), picture.svg(run["quiet"])
        columns = table.splitlines()[0].count(" | ")
        rows = fairness_tables.overview(run).count("\n")
        return columns, rows, drawn.count('class="panel"'), table.count("stagger = true")

    columns, rows, panels, said = made(older)
    assert (panels, said) == (3, 0)
    assert made(later) == (columns + 1, rows + 2, 4, 1)


def test_running_time(bench_modules):
    """What lies outside of the stretch doesn't count, and what has not ended counts up to its end."""
    from share import jain, running_time

    def line(event, task, user, time):
        return {"event": event, "task": task, "user": user, "time": time}

    written = [
        line("start", "a", 1, 8.0), line("end", "a", 1, 11.0),
        line("start", "b", 2, 12.0), line("end", "b", 2, 14.5),
        line("start", "c", 1, 19.0),
        line("start", "d", 2, 21.0),
    ]
    assert running_time(written, {1: 0.4, 2: 0.2}, 10.0, 20.0) == {1: 2.0, 2: 2.5}
    assert jain([2.0, 2.0, 2.0]) == 1.0
    assert jain([0.0, 0.0, 5.0, 0.0]) == 0.25


def test_the_page_is_made_from_the_history(bench_modules):
    """`docs/benchmarks.md` and its picture are what the template and the history make."""
    import report

    assert report.PAGE.read_text() == report.page()
    if measured := report.latest("growth"):
        assert report.GROWTH_PICTURE.read_text() == report.growth_tables.svg(measured["growth"])
    assert report.PICTURE.read_text() == report.picture.svg(report.last(*report.fairness_tables.PARTS)["quiet"])
