"""What fairness costs somebody who is alone: no-op tasks per second of one user.

Lanes can't be switched off. Without `[tenancy]` a message's queue stands for its tenant and no message is asked whose
it is: that is what `with tenancy` is compared with.
"""
from drain import one_run, summary
from quiet import BULK_USER
from systems import Daemon, Stock, StockAtBest


def measure(app, sizes, say):
    """By turns, so that a busy minute hits all of them."""
    from bench.tasks import noop

    systems = {
        "celery": Stock(), "celery_best": StockAtBest(), "fairstalk": Daemon(), "without_tenancy": Daemon(tenancy=None),
    }
    runs = {key: [] for key in systems}
    for repetition in range(sizes.alone_repeat):
        for key, system in systems.items():
            stock = key.startswith("celery")
            count = sizes.alone_stock if stock else sizes.alone
            if stock and repetition >= sizes.repeat:
                continue
            runs[key].append(one_run(app, system, noop, count, [BULK_USER]))
            say(f"alone {repetition + 1}/{sizes.alone_repeat}: {key} {runs[key][-1]['rate']:.0f} tasks/s")
    figures = {
        key: summary(taken, sizes.alone_stock if key.startswith("celery") else sizes.alone) for key, taken in runs.items()
    }
    for figure in figures.values():
        figure["ratio"] = figure["rate"] / figures["without_tenancy"]["rate"]
    return figures
