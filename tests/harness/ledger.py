"""What the example's `record` task wrote down: who started and ended when, and in which process."""
import json
from collections import defaultdict
from pathlib import Path

from .waiting import eventually


class Ledger:
    """A file with one line per start and end of a task; a line's place in it is the order of things."""

    def __init__(self, path):
        self.path = Path(path)

    def __str__(self):
        return str(self.path)

    def lines(self, event=None):
        """All lines, or those of one kind of event. The last one may be half written just now."""
        if not self.path.exists():
            return []
        text = self.path.read_text()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    def numbers(self, event, user=None):
        """The tasks' own numbers, in order."""
        return [line["n"] for line in self.lines(event) if user in (None, line["user"])]

    def runs(self):
        """Task id to the pids of its runs, in order."""
        runs = defaultdict(list)
        for line in self.lines("start"):
            runs[line["task"]].append(line["pid"])
        return dict(runs)

    def running(self):
        """Pids of processes that have started a task and not ended it."""
        open_runs = set()
        for line in self.lines():
            (open_runs.add if line["event"] == "start" else open_runs.discard)(line["pid"])
        return open_runs

    def wait(self, event, count, timeout=30.0):
        """Wait for so many lines of one kind."""
        return eventually(
            lambda: len(self.lines(event)) >= count,
            timeout,
            lambda: f"{count} lines of {event}; there are {len(self.lines(event))}",
        )
