"""Figures of delayed messages to Markdown."""
from fairness_tables import milliseconds
from tables import MIB, number, table


def delayed(figures):
    """Memory, then lateness."""
    memory, stock, late = figures["memory"], figures["celery"], figures["late"]
    per_message = (stock["after"] - stock["before"]) / stock["messages"]
    sizes = table(
        ["memory", "Celery's parent", "fairstalk's workers"],
        ["before, MiB", number(stock["before"] / MIB), number(memory["before"] / MIB)],
        [f"with {number(stock['messages'])} taken in (fairstalk: {number(figures['intake'])}), MiB", number(stock["after"] / MIB),
         number(memory["taken_in"] / MIB)],
        [f"with {number(figures['messages'])} in Redis, MiB", f"({number(per_message)} bytes a message)",
         number(memory["after"] / MIB)],
    )
    down, at_once, scripts = figures["down"], figures["at_once"], figures["at_once"]["scripts"]
    said = (
        f"A message takes {number(figures['redis_per_message'])} bytes of Redis's memory; they are taken in at "
        f"{number(figures['intake_rate'])} a second."
    )
    rest = (
        f"{number(down['tasks'])} tasks whose time came while nothing ran: from READY of the next daemon to the start of the "
        f"last one {milliseconds(max(0, down['last']))} ms. {number(at_once['messages'])} messages due in the same millisecond: all in "
        f"their lanes after {number(at_once['seconds'])} s, fifty with each step; calls of scripts meanwhile took "
        f"{milliseconds(scripts['p50'])} ms at p50, {milliseconds(scripts['p99'])} ms at p99, {milliseconds(scripts['max'])} ms at most."
    )
    lateness = table(
        [f"{number(late['tasks'])} tasks with distinct times", "p50", "p99", "longest"],
        ["from its time to its first line, ms", *(milliseconds(late[name]) for name in ("p50", "p99", "max"))],
    )
    return "\n\n".join([sizes, said, lateness, rest])


PARTS = {"delayed": delayed}
