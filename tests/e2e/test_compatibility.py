"""docs/compatibility.md has a row for everything the installed Celery can be asked for."""
import re

import pytest
from celery import signals
from celery.app.defaults import DEFAULTS
from celery.bin.celery import celery
from celery.bin.worker import worker
from celery.utils.dispatch import Signal
from celery.worker.control import Panel
from harness import ROOT

#: Without its examples.
PAGE = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / "compatibility.md").read_text(), flags=re.MULTILINE | re.DOTALL)
STATUSES = {"same", "better", "not applicable", "missing"}


def section(name):
    """The text under a heading, up to the next one of its kind or above."""
    start = re.search(rf"^(##+) {name}$", PAGE, re.MULTILINE)
    assert start, f"no heading {name}"
    end = re.compile(rf"^#{{2,{len(start[1])}}} ", re.MULTILINE).search(PAGE, start.end())
    return PAGE[start.end():end.start() if end else None]


def rows(name):
    """Names, status and remark of each row of a table."""
    lines = [line for line in section(name).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


#: Headings whose table has a status in its second column.
TABLES = [
    "Command line", "Settings of workers", "Settings of tasks", "Settings of results", "Settings of the broker",
    "Other settings", "Every signal", "Commands",
]


def names(*tables):
    """What stands between backticks in the first columns."""
    return {name for table in tables for row in rows(table) for name in re.findall(r"`([^`]+)`", row[0])}


def options():
    """Of `celery worker`, the general ones included."""
    return {name for option in (*celery.params, *worker.params) for name in option.opts} - {"--help"}


def known(name, listed):
    """Whether it is listed, by itself or by `prefix_*`."""
    return name in listed or any(other.endswith("*") and name.startswith(other[:-1]) for other in listed)


@pytest.mark.parametrize(
    ("what", "tables"),
    [
        (options(), ["Command line"]),
        (set(DEFAULTS), [table for table in TABLES if "ettings" in table]),
        ({name for name, found in vars(signals).items() if isinstance(found, Signal)}, ["Every signal"]),
    ],
    ids=["options", "settings", "signals"],
)
def test_everything_of_celery_has_a_row(what, tables):
    """And nothing has one that is not Celery's any more."""
    listed = names(*tables)
    assert len(what) > 20
    assert not {name for name in what if not known(name, listed)}
    plain = {name for name in listed if re.fullmatch(r"(--?[a-zA-Z]|[a-z])[a-zA-Z_-]*", name)}
    assert not {name for name in plain - what if len(tables) == 1 or re.match(r"[a-z]+_", name)}


def test_every_command_is_named():
    """In its table, or as an older name of one that is."""
    assert names("Commands")
    assert not set(Panel.data) - set(re.findall(r"`([^`]+)`", PAGE))


@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_a_status(table):
    """One of four words; and what is not simply the same says how or why."""
    found = rows(table)
    assert found
    for name, status, remark in found:
        assert status in STATUSES, name
        assert remark or status in ("same", "missing"), name


def test_no_name_has_two_rows():
    """Else one of the two would be forgotten."""
    for table in TABLES:
        all_of_it = [name for row in rows(table) for name in re.findall(r"`([^`]+)`", row[0])]
        twice = {name for name in all_of_it if all_of_it.count(name) > 1}
        assert twice <= {"task_queues"}, table
