"""Figures to Markdown: one table for each part, the one with all ratios, and what was measured on what."""

KINDS = {"noop": "no-op", "noop_result": "no-op, stored result"}
TITLES = {"celery": "Celery", "fairstalk": "fairstalk 2x2", "fairstalk 1x4": "fairstalk 1x4", "fairstalk 4x1": "fairstalk 4x1"}
MIB = 2**20


def table(head, *rows):
    """Markdown, numbers to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value):
    """Three significant digits, or all before the point, with thousands apart."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}"


def times(value):
    """A ratio."""
    return f"{number(value)} x"


def drain(kinds):
    """Rates with their spread; then what a task costs."""
    columns = list(kinds["noop"])
    rates = []
    for kind, title in KINDS.items():
        cells = []
        for column in columns:
            of = kinds[kind][column]
            spread = f"{number(min(of['rates']))} to {number(max(of['rates']))}"
            ratio = "" if column == "celery" else f" = {times(of['ratio'])}"
            cells.append(f"**{number(of['rate'])}**{ratio}<br>({spread})")
        rates.append([f"{title}, {number(kinds[kind][columns[0]]['tasks'])} tasks", *cells])
    parts = [table(["tasks per second", *(TITLES[column] for column in columns)], *rates)]
    for kind, title in KINDS.items():
        parts.append(costs(title, kinds[kind], columns))
    return "\n\n".join(parts)


def costs(title, figures, columns):
    """Where a task's time goes."""

    def row(name, value):
        return [name, *(number(value(figures[column])) for column in columns)]

    return table(
        [f"one task, {title}", *(TITLES[column] for column in columns)],
        row("CPU in Redis, us", lambda of: of["cpu_usec"]["redis"]),
        row("CPU in the Celery parent, us", lambda of: of["cpu_usec"]["parent"]),
        row("CPU in supervisor and workers (Rust), us", lambda of: of["cpu_usec"]["worker"]),
        row("CPU in the processes that run tasks (Python), us", lambda of: of["cpu_usec"]["python"]),
        row("CPU in all, us", lambda of: sum(of["cpu_usec"].values())),
        row("requests to Redis", lambda of: of["requests"]),
        row("of these EVALSHA", lambda of: of["scripts"]),
        row("time inside scripts in Redis, us", lambda of: of["script_usec"]),
        row("commands in Redis, those in scripts included", lambda of: of["commands"]),
    )


def pickup(figures):
    """Waits in milliseconds."""
    rows = []
    moments = {"push": "since the producer's LPUSH", "call": "since the call", "return": "since its return"}
    for since, title in moments.items():
        for percentile in ("p50", "p99"):
            ours, theirs = figures["fairstalk"][since][percentile], figures["celery"][since][percentile]
            rows.append([f"{title}, {percentile}, ms", number(theirs), number(ours)])
    return table([f"{figures['celery']['tasks']} tasks", "Celery", "fairstalk"], *rows)


def steady(figures):
    """Waits in milliseconds, and what is left of them without what is no worker's fault."""
    rows, titles = [], {"even": "even distances", "one": "at random, one user", "twenty": "at random, twenty users"}
    for key, title in ((key, title) for key, title in titles.items() if key in figures):  # not all in older lines
        systems = [figures[key][system] for system in ("celery", "fairstalk")]
        for percentile in ("p50", "p99"):
            name = f"{title}, {percentile}"
            rows.append([f"{name}, ms", *(number(of[percentile]) for of in systems)])
            rows.append([f"{name} if only tasks took time, ms", *(number(of["ideal"][percentile]) for of in systems)])
            rows.append([f"{name}, excess, ms", *(number(of[percentile] - of["ideal"][percentile]) for of in systems)])
    return table([f"{figures['one']['fairstalk']['tasks']} tasks", "Celery", "fairstalk"], *rows)


def memory(figures):
    """The sums, and what they are made of; with many slots, too, where that was measured."""
    rows = [memory_row(TITLES[key], figures[key]) for key in figures if key in TITLES]
    titles = {"celery": "Celery, 16 slots", "fairstalk": "fairstalk 4x4"}
    rows += [memory_row(titles[key], of) for key, of in figures.get("many", {}).items()]
    return table(["PSS, MiB", "sum", "spread", "made of"], *rows)


def memory_row(title, of):
    """One system."""
    made_of = ", ".join(
        f"{of['processes'][kind]} {kind} {size / MIB:.1f}" if of["processes"][kind] > 1 else f"{kind} {size / MIB:.1f}"
        for kind, size in of["by_kind"].items()
    )
    spread = f"{min(of['sums']) / MIB:.1f} to {max(of['sums']) / MIB:.1f}"
    return [title, f"**{of['bytes'] / MIB:.1f}**", spread, made_of]


def idle(figures):
    """CPU and the load on Redis."""
    rows = []
    for title, name in (
        ("CPU of all its processes, % of a core", "cpu_percent"),
        ("CPU of Redis, % of a core", "redis_cpu_percent"),
        ("requests to Redis per second", "requests"),
        ("commands in Redis per second", "commands"),
    ):
        rows.append([title, *(number(figures[key][name]) for key in ("celery", "fairstalk"))])
    split = ", ".join(f"{kind} {number(share)}" for kind, share in figures["fairstalk"]["by_kind"].items())
    return table(["idle", "Celery", "fairstalk"], *rows) + f"\n\nfairstalk's CPU by process, %: {split}."


def startup(figures):
    """Seconds until ready."""
    titles = {
        "celery": "Celery", "fairstalk": "fairstalk", "application": "a Python that imports the same application",
        "without_python": "fairstalk, command tasks only", "replaced": "from the kill of a runner to its task's next first line",
    }
    rows = []
    for key, title in titles.items():
        if key not in figures:
            continue  # older lines of the history
        runs = [1000 * seconds for seconds in figures[key]["runs"]]
        rows.append([title, number(1000 * figures[key]["seconds"]), f"{number(min(runs))} to {number(max(runs))}"])
    return table(["ready after, ms", "median", "spread"], *rows)


def events(figures):
    """What a task costs with events and without."""
    rows = []
    for title, key in (("Celery", "celery"), ("fairstalk", "fairstalk")):
        off, on = figures[f"{key}_off"], figures[f"{key}_on"]
        cost = {kind: [sum(of["cpu_usec"].values()), of["cpu_usec"]["redis"]] for kind, of in (("off", off), ("on", on))}
        more = [with_them - without for with_them, without in zip(cost["on"], cost["off"])]
        rates = f"{number(off['rate'])} to {number(on['rate'])}"
        rows.append([title, number(cost["off"][0]), number(cost["on"][0]), number(more[0]), number(more[1]), rates])
    head = ["one task, with a result", "CPU without events, us", "with events, us", "more", "of it in Redis", "tasks per second"]
    return table(head, *rows)


PARTS = {"drain": drain, "pickup": pickup, "memory": memory, "idle": idle, "startup": startup}


def overview(run):
    """One line for each figure, with how many times better fairstalk is."""
    rows = []

    def row(title, theirs, ours, more_is_better=False):
        better, worse = (ours, theirs) if more_is_better else (theirs, ours)
        rows.append([title, number(theirs), number(ours), times(better / worse) if better > 0 and worse > 0 else "-"])

    for kind, title in KINDS.items():
        of = run["drain"][kind]
        row(f"{title}: tasks per second, 4 slots", of["celery"]["rate"], of["fairstalk"]["rate"], more_is_better=True)
    for kind, title in KINDS.items():
        total = {key: sum(of["cpu_usec"].values()) for key, of in run["drain"][kind].items()}
        row(f"{title}: CPU of a task, Redis included, us", total["celery"], total["fairstalk"])
    for name in ("p50", "p99"):
        row(f"idle pick-up {name}, ms", run["pickup"]["celery"]["push"][name], run["pickup"]["fairstalk"]["push"][name])
    row("memory at 4 slots, MiB PSS", run["memory"]["celery"]["bytes"] / MIB, run["memory"]["fairstalk"]["bytes"] / MIB)
    if many := run["memory"].get("many"):
        row("memory at 16 slots, MiB PSS", many["celery"]["bytes"] / MIB, many["fairstalk"]["bytes"] / MIB)
    row("idle CPU, % of a core", run["idle"]["celery"]["cpu_percent"], run["idle"]["fairstalk"]["cpu_percent"])
    row("idle requests to Redis per second", run["idle"]["celery"]["requests"], run["idle"]["fairstalk"]["requests"])
    row("start to ready, ms", 1000 * run["startup"]["celery"]["seconds"], 1000 * run["startup"]["fairstalk"]["seconds"])
    return table(["", "Celery", "fairstalk", "better by"], *rows)


def about(run):
    """Date, commit, machine, versions."""
    machine, versions = run["machine"], run["versions"]
    lines = [
        f"Measured on {run['date']} at commit `{run['commit']}`, on {machine['cores']} cores of {machine['cpu']} with",
        f"{machine['memory_gib']:g} GiB, Linux {machine['kernel']}, load {machine['load']:g} before the start;",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    return "\n".join(lines)
