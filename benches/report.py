"""The history, and the page that is made from its last line and `benchmarks.md.in`."""
import json
import re

import tables
from harness import ROOT

HISTORY = ROOT / "benches" / "history.jsonl"
TEMPLATE = ROOT / "benches" / "benchmarks.md.in"
PAGE = ROOT / "docs" / "benchmarks.md"


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


def last():
    """The run that was added last."""
    return json.loads(HISTORY.read_text().splitlines()[-1])


def page(run):
    """The whole page; of a run of some parts only, just their tables."""
    run = rounded(run)
    made = {name: make(run[name]) for name, make in tables.PARTS.items() if name in run}
    made["about"] = tables.about(run)
    if len(made) <= len(tables.PARTS):
        return "\n\n".join(f"**{name}**\n\n{text}" for name, text in made.items())
    made["summary"] = tables.overview(run)
    made["sources"] = ", ".join(f"`{path.name}`" for path in sorted((ROOT / "benches").glob("*.py")))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: made[match[1]], TEMPLATE.read_text())


def write(run):
    """Write the page."""
    PAGE.write_text(page(run))
