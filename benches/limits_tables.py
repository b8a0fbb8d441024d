"""Figures beside what the machine can do at most, to Markdown: enqueueing, command tasks, built-in tasks."""
from tables import number, table


def row(title, of, beside=None):
    """Rate with its spread, and the share of another."""
    spread = f"{number(min(of['rates']))} to {number(max(of['rates']))}"
    return [title, f"**{number(of['rate'])}**", spread, "" if beside is None else f"{100 * of['rate'] / beside['rate']:.0f} %"]


def enqueue(figures):
    """Celery's producer, and ours."""
    titles = {
        "celery": "`apply_async` in a loop", "command": "`fairstalk enqueue --count`, from start to end",
        "library": "the library (`broker::publish`)",
    }
    rows = [row(f"{title}, {number(figures[key]['messages'])} messages", figures[key])[:3] for key, title in titles.items()]
    return table(["enqueued by one process", "messages per second", "spread"], *rows)


def commands(figures):
    """Beside one loop, and beside as many as there are slots."""
    rows = [
        row("a loop that starts it and waits", figures["loop"]),
        row("four such loops at once", figures["loops"], figures["loop"]),
        row("command tasks, 2x2", figures["fairstalk"], figures["loop"]),
    ]
    return table([f"`/bin/true`, {number(figures['tasks'])} times", "per second", "spread", "of the loop"], *rows)


def builtin(figures):
    """Beside the repeated recording."""
    most = figures["ceiling"]
    rows = [row("the same calls repeated in one pipeline", most)]
    rows += [row(f"fairstalk {key}", figures[key], most) for key in ("2x2", "1x4")]
    made = table([f"`fairstalk.noop`, {number(figures['tasks'])} messages", "per second", "spread", "of the most"], *rows)
    costs = ", ".join(
        f"{key}: Redis {number(figures[key]['cpu_usec']['redis'])}, workers {number(figures[key]['cpu_usec']['worker'])}, "
        f"exchanges {number(figures[key]['requests'])}" for key in ("2x2", "1x4")
    )
    return f"{made}\n\nCPU time of a task in µs, and exchanges with Redis for each: {costs}."


PARTS = {"enqueue": enqueue, "commands": commands, "builtin": builtin}
