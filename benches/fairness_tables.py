"""Figures of fairness to Markdown: one table for each part, and the one with all targets."""
from tables import number, table

SYSTEMS = {"celery": "Celery", "celery_best": "Celery, prefetch 1", "fairstalk": "fairstalk"}
# Older lines of the history don't have the last one.
QUIET = {**SYSTEMS, "stagger": "fairstalk, `stagger`"}
STAGGER = (
    "By default no slot of fairstalk idles while something could run; the column `stagger` is that with "
    "[`[tenancy] stagger = true`](fairness.md#slots-that-end-together)."
)
PLACES = {"others": "another queue", "shared": "the bulk user's queue"}
PLACEMENTS = {
    "mixed": "three share a queue, two have their own", "together": "all share one queue", "apart": "each has its own",
}
ALONE = {**SYSTEMS, "without_tenancy": "fairstalk without `[tenancy]`"}


def milliseconds(seconds):
    """As a number."""
    return number(1000 * seconds)


def quiet(figures):
    """Waits of quiet users."""
    rows, systems = [], {key: title for key, title in QUIET.items() if key in figures}
    for place, title in PLACES.items():
        for name in ("p50", "p99", "max"):
            waits = [milliseconds(figures[key][place][name]) for key in systems]
            rows.append([f"{title}, {name}", *waits, milliseconds(figures["ideal"][name])])
    rows.append(["p99 there by p99 here", *(number(figures[key]["ratio"]) for key in systems), "1"])
    counted = figures["fairstalk"]
    rows.append(["latest call, ms after its time", *(milliseconds(figures[key]["late"]) for key in systems), "0"])
    tasks = f"{counted['others']['tasks']} and {counted['shared']['tasks']} tasks in {figures['seconds']:g} s"
    head = f"wait, ms ({tasks}, beside {number(figures['bulk'])})"
    made = table([head, *systems.values(), "nothing but the tasks"], *rows)
    return f"{made}\n\n{STAGGER}" if "stagger" in systems else made


def million(figures):
    """Waits behind a million messages."""
    rows = []
    stretches = {"during": "while they are filed", "after": "afterwards"}
    for stretch, when in stretches.items():
        for place, where in PLACES.items():
            of = figures[stretch][place]
            waits = [of["tasks"], milliseconds(of["p50"]), milliseconds(of["max"])] if of else ["-"] * 3
            rows.append([f"{when}, {where}", *waits])
    said = (
        f"{number(figures['messages'])} messages: ready {number(figures['ready'])} s after the start, all filed after "
        f"{number(figures['digested'])} s, all handed back at the stop within {number(figures['stopped'])} s."
    )
    return table(["called", "tasks", "wait p50, ms", "longest, ms"], *rows) + "\n\n" + said


def newcomer(figures):
    """Waits beside long tasks."""
    rows = [[name, *(milliseconds(figures[key][name]) for key in SYSTEMS)] for name in ("p50", "p99", "max")]
    return table([f"wait, ms ({figures['fairstalk']['tasks']} tasks)", *SYSTEMS.values()], *rows)


def share(figures):
    """Jain's index, what each user got, and weights."""
    rows = []
    for placement, of in figures["placements"].items():
        for key, got in of.items():
            rows.append([f"{PLACEMENTS[placement]}: {SYSTEMS[key]}", f"**{got['jain']:.3f}**", *map(number, got["used"])])
    head = ["", "Jain", *(f"{1000 * seconds:g} ms tasks" for seconds in figures["durations"])]
    of = figures["weights"]
    weighted = ", ".join(f"{weight}: {number(used)} s" for weight, used in zip(of["weights"], of["used"], strict=True))
    return table(head, *rows) + f"\n\nBy weight: {weighted}; at most {100 * of['off']:.1f} % off."


def alone(figures):
    """Rates of one user."""
    rows = []
    for key, title in ALONE.items():
        of = figures[key]
        spread = f"{number(min(of['rates']))} to {number(max(of['rates']))}"
        cpu = number(sum(of["cpu_usec"].values()))
        rows.append([title, f"**{number(of['rate'])}**", spread, f"{100 * of['ratio']:.0f} %", cpu])
    head = ["one user, no-op", "tasks per second", "spread", "of that without `[tenancy]`", "CPU of a task, us"]
    return table(head, *rows)


#: Calls of scripts that are timed.
KINDS = ("step", "filing", "leaving")


def cost(figures):
    """Costs of claims, and how they grow."""
    growth = None
    if isinstance(figures, dict):  # not so in older lines of the history
        figures, growth = figures["sizes"], figures["growth"]
    sizes = [step["batch"] for step in figures[0]["steps"]]
    head = ["messages", "tenants", *(f"us a task, {size} a step: script / CPU" for size in sizes)]
    head += [f"{kind}: p99 / longest, ms" for kind in ("step", "filing", "pouring back")]
    rows = []
    for of in figures:
        steps = [f"{number(step['script_usec'])} / {number(step['cpu_usec'])}" for step in of["steps"]]
        steps += ["-"] * (len(sizes) - len(steps))
        rows.append([number(of["messages"]), number(of["tenants"]), *steps, *(calls(of, kind) for kind in KINDS)])
    return table(head, *rows) + (f"\n\n{cost_growth(figures, growth, sizes)}" if growth else "")


def calls(of, kind):
    """How long most calls of a script take, and the longest."""
    return f"{number(of[f'{kind}_p99_ms'])} / {number(of[f'{kind}_ms'])}"


def cost_growth(figures, growth, sizes):
    """The ratios the targets speak of."""
    span = {
        "messages": f"{number(figures[0]['messages'])} to {number(figures[1]['messages'])} waiting messages",
        "tenants": f"{number(figures[2]['tenants'])} to {number(figures[-1]['tenants'])} waiting tenants",
    }
    ratios = {what: [f"{ratio:.2f}" for ratio in growth[what]] for what in span}
    rows = [[f"from {span[what]}", *(ratios[what] + ["-"] * len(sizes))[:len(sizes)], "<= 1.5"] for what in span]
    longest = max(of[f"{kind}_ms"] for of in figures for kind in KINDS)
    head = ["time in scripts of a task grows by", *(f"{size} a step" for size in sizes), "target"]
    return table(head, *rows) + f"\n\nThe longest call of all: {number(longest)} ms (target: 2)."


PARTS = {"quiet": quiet, "million": million, "newcomer": newcomer, "share": share, "alone": alone, "cost": cost}


def overview(run):
    """What is promised, and what was measured."""
    million, alone = run["million"], run["alone"]
    placements = run["share"]["placements"]
    fairest = min(placement["fairstalk"]["jain"] for placement in placements.values())

    def of_all(value):
        return [value(key) for key in SYSTEMS]

    def ours(value):
        return ["-", "-", value]

    def wait(place, name):
        return of_all(lambda key: milliseconds(run["quiet"][key][place][name]))

    staggered = run["quiet"].get("stagger")
    stagger = [
        [f"fairstalk with `stagger = true`, p99 in {where}, ms", *ours(milliseconds(staggered[place]["p99"])), "<= 75"]
        for place, where in PLACES.items() if staggered
    ]
    newcomers = of_all(lambda key: milliseconds(run["newcomer"][key]["max"]))
    return table(
        ["", *SYSTEMS.values(), "target"],
        ["quiet users, wait p50, ms", *wait("others", "p50"), "-"],
        ["quiet users, wait p99, ms", *wait("others", "p99"), "<= 75"],
        ["the same in the bulk user's queue, p99, ms", *wait("shared", "p99"), "<= 75"],
        ["the latter by the former", *of_all(lambda key: number(run["quiet"][key]["ratio"])), "<= 1.2"],
        *stagger,
        ["behind a million messages, longest wait, ms", *ours(milliseconds(million["after"]["shared"]["max"])), "<= 1,000"],
        ["5 s tasks in every slot, newcomer's longest wait, ms", *newcomers, "<= 50"],
        ["running time of five users, Jain's index", *of_all(lambda key: f"{placements['mixed'][key]['jain']:.3f}"), ">= 0.98"],
        ["the same, worst of three placements", *ours(f"{fairest:.3f}"), ">= 0.98"],
        ["weights 1:2:4, furthest off, %", *ours(number(100 * run["share"]["weights"]["off"])), "<= 5"],
        ["one user alone, no-op tasks per second", *of_all(lambda key: number(alone[key]["rate"])), "-"],
        ["the same, % of that without `[tenancy]`", *ours(number(100 * alone["fairstalk"]["ratio"])), ">= 97"],
    )
