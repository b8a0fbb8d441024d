#!/usr/bin/env python3
"""fairstalk against a stock Celery worker: the same application, the same machine, four slots each.

    benches/bench.py                          measure speed (some fifteen minutes), add a line to benches/history.jsonl
                                              and write docs/benchmarks.md
    benches/bench.py --fairness               the same for fairness (some twenty minutes), and docs/fairness-wait.svg
    benches/bench.py --quick [--only PART]    a smoke run with small sizes; prints the page and writes nothing
    benches/bench.py --only PART              some parts at full size; prints them and writes nothing
    benches/bench.py --report                 write the page and the picture again from the history

Run it with the Python of target/venv, which tests/setup.sh makes, after `cargo build --release --bin fairstalk --example probe`, on a quiet machine.
"""
import argparse
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The application's package `bench` has to be found before this file.
sys.path[:0] = [str(ROOT / "examples" / "imgbackend"), str(ROOT / "tests")]

import alone  # noqa: E402
import builtin  # noqa: E402
import claim_cost  # noqa: E402
import commands  # noqa: E402
import delayed  # noqa: E402
import drain  # noqa: E402
import enqueue  # noqa: E402
import events  # noqa: E402
import growth  # noqa: E402
import idle  # noqa: E402
import memory  # noqa: E402
import million  # noqa: E402
import newcomer  # noqa: E402
import pickup  # noqa: E402
import quiet  # noqa: E402
import report  # noqa: E402
import share  # noqa: E402
import startup  # noqa: E402
from harness import example_app  # noqa: E402
from machine import description  # noqa: E402
from systems import probe, program  # noqa: E402

SPEED = {
    "drain": drain, "pickup": pickup, "memory": memory, "idle": idle, "startup": startup, "delayed": delayed,
    "events": events, "enqueue": enqueue, "commands": commands, "builtin": builtin, "growth": growth,
}
FAIRNESS = {
    "quiet": quiet, "million": million, "newcomer": newcomer, "share": share, "alone": alone, "cost": claim_cost,
}
PARTS = {**SPEED, **FAIRNESS}


@dataclass
class Sizes:
    """How much of everything."""

    noop: int = 20_000
    noop_result: int = 10_000
    layouts: int = 3
    repeat: int = 3
    pickups: int = 500
    turns: int = 2
    memory_repeat: int = 3
    idle_seconds: float = 20.0
    startups: int = 5
    kills: int = 10
    enqueued: int = 200_000
    enqueued_stock: int = 3000
    commands: int = 3000
    builtin: int = 30_000
    # Tasks of a row where something else grows; seconds that count of each run.
    growth: int = 15_000
    growth_seconds: float = 5.0
    growth_waiting: tuple = (10_000, 100_000, 1_000_000)
    growth_tenants: tuple = (10, 100, 1000, 10_000)
    # Bytes of an argument, messages.
    growth_payloads: tuple = ((100, 10_000), (20_000, 10_000), (200_000, 2000))
    growth_processes: tuple = (1, 2, 4, 8)
    delayed: int = 1_000_000
    delayed_intake: int = 20_000
    delayed_at_once: int = 100_000
    delayed_tasks: int = 1000
    delayed_stock: int = 20_000
    quiet_bulk: int = 10_000
    quiet_seconds: float = 90.0
    million: int = 1_000_000
    newcomers: int = 40
    newcomer_seconds: float = 20.0
    share_seconds: float = 60.0
    alone: int = 20_000
    alone_stock: int = 5_000
    alone_repeat: int = 7
    # Few messages, many messages, many tenants, tasks.
    cost: tuple = (1000, 1_000_000, 100_000, 8000)


QUICK = Sizes(
    1500, 1500, 1, 1, pickups=20, turns=1, memory_repeat=1, idle_seconds=2.0, startups=1, delayed=5000,
    delayed_intake=500, delayed_at_once=1000, delayed_tasks=50, delayed_stock=500, quiet_bulk=400, quiet_seconds=2.0, million=20_000, newcomers=2, newcomer_seconds=2.0, share_seconds=2.0, alone=1500,
    alone_stock=1500, alone_repeat=1, cost=(1000, 10_000, 2000, 400), kills=2, enqueued=2000, enqueued_stock=100, commands=200,
    builtin=3000, growth=1500, growth_waiting=(1500, 3000), growth_tenants=(10, 300),
    growth_payloads=((100, 600), (20_000, 600)), growth_processes=(1, 2),
)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="fairstalk against a stock Celery worker.")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works; writes nothing")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help="only: " + ", ".join(PARTS))
    parser.add_argument("--fairness", action="store_true", help="measure fairness in place of speed")
    parser.add_argument("--repeat", type=int, help="repetitions of each drain (default 3)")
    parser.add_argument("--json", action="store_true", help="print the figures themselves in place of the page")
    parser.add_argument("--report", action="store_true", help="only write page and picture from the history")
    return parser.parse_args()


def say(line):
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def main():
    """Measure, print, keep."""
    options = arguments()
    # So that what was started is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.report:
        report.write()
        return
    for needed in (program(), probe()):
        if not needed.exists():
            sys.exit(f"{needed} is missing: cargo build --release --bin fairstalk --example probe")
    sizes = QUICK if options.quick else Sizes()
    sizes.repeat = options.repeat or sizes.repeat
    app = example_app.load()
    run = description()
    for part in options.only or (FAIRNESS if options.fairness else SPEED):
        run[part] = PARTS[part].measure(app, sizes, say)
    print(json.dumps(run) if options.json else report.parts(run))
    if not options.quick and not options.only:
        report.remember(run)
        report.write()


if __name__ == "__main__":
    main()
