"""The history, and what is made from it and `benchmarks.md.in`: a page, and a picture.

Speed and fairness are measured by runs of their own, and parts of them may be: of each the last line counts.
"""
import json
import re
import sys

import delayed_tables
import fairness_tables
import growth_tables
import limits_tables
import picture
import tables
from harness import ROOT

HISTORY = ROOT / "benches" / "history.jsonl"
TEMPLATE = ROOT / "benches" / "benchmarks.md.in"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "fairness-wait.svg"
GROWTH_PICTURE = ROOT / "docs" / "growth.svg"
# Parts that may have been measured each by itself, or not yet.
APART = {**limits_tables.PARTS, "growth": growth_tables.growth, "events": tables.events,
         "steady": tables.steady}
MAKERS = {**tables.PARTS, **delayed_tables.PARTS, **fairness_tables.PARTS, **APART}


def rounded(value):
    """Five significant digits: more are noise, and make the history hard to read."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def remember(run):
    """Add a run to the history."""
    with open(HISTORY, "a") as history:
        history.write(json.dumps(rounded(run)) + "\n")


def last(*parts):
    """The run that was added last of those that have all these parts."""
    return latest(*parts) or sys.exit(f"no line of {HISTORY} has {', '.join(parts)}")


def latest(*parts):
    """The same, or nothing if there is no such run."""
    runs = map(json.loads, reversed(HISTORY.read_text().splitlines()))
    return next((run for run in runs if all(name in run for name in parts)), None)


def apart(name):
    """A part with what it was measured on."""
    run = latest(name)
    return f"{APART[name](run[name])}\n\n{tables.about(run)}" if run else "Not measured yet."


def parts(run):
    """What was measured, table by table."""
    run = rounded(run)
    made = {name: make(run[name]) for name, make in MAKERS.items() if name in run}
    return "\n\n".join(f"**{name}**\n\n{text}" for name, text in {**made, "about": tables.about(run)}.items())


def page():
    """The whole page."""
    speed, fairness, waiting = last(*tables.PARTS), last(*fairness_tables.PARTS), last(*delayed_tables.PARTS)
    draining = last("drain")  # may have been measured by itself
    speed = {**speed, "drain": draining["drain"]}
    made = {name: make(speed[name]) for name, make in tables.PARTS.items()}
    made |= {name: make(fairness[name]) for name, make in fairness_tables.PARTS.items()}
    made |= {name: make(waiting[name]) for name, make in delayed_tables.PARTS.items()}
    made |= {name: apart(name) for name in APART}
    made["growth_picture"] = "![Tasks per second by what grows](growth.svg)" if latest("growth") else ""
    made |= {"about_delayed": tables.about(waiting), "about_drain": tables.about(draining)}
    made |= {"about": tables.about(speed), "summary": tables.overview(speed)}
    made |= {"about_fairness": tables.about(fairness), "summary_fairness": fairness_tables.overview(fairness)}
    made["sources"] = ", ".join(f"`{path.name}`" for path in sorted((ROOT / "benches").glob("*.py")))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: made[match[1]], TEMPLATE.read_text())


def write():
    """Write the page, and the picture in it."""
    PAGE.write_text(page())
    PICTURE.write_text(picture.svg(last(*fairness_tables.PARTS)["quiet"]))
    if run := latest("growth"):
        GROWTH_PICTURE.write_text(growth_tables.svg(run["growth"]))
