"""What grows, as a table and as a picture: one panel a row, one axis of rates for all."""
from tables import number, table

ROWS = {
    "waiting": ("waiting messages", "messages that wait"),
    "tenants": ("waiting tenants", "tenants that wait"),
    "payload": ("bytes of arguments", "bytes of arguments"),
    "processes": ("worker processes", "worker processes, two slots each"),
}
#: The same of a stock worker, where it was measured.
STOCK = "_stock"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 960, 320, 70, 70, 60, 26
STYLE = """
text { font: 13px system-ui, -apple-system, "DejaVu Sans", sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .panel { font-weight: 600 } .page { fill: #ffffff }
.grid { stroke: #d8dee4; fill: none } .line { stroke: #0969da; stroke-width: 2; fill: none } circle { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .page { fill: #0d1117 } .grid { stroke: #30363d } .line { stroke: #58a6ff } circle { fill: #58a6ff }
}
"""


#: Only in a picture with points of a stock worker.
STOCK_STYLE = """
.stock { stroke: #8c959f; stroke-width: 2; stroke-dasharray: 5 4; fill: none } circle.stock { fill: #8c959f; stroke: none }
"""


def growth(rows):
    """Each row with the share of its first point; behind it, where that was measured, the same of a stock worker."""
    made, heads = [], ["no-op tasks, 2x2", "tasks per second", "of the first of its kind"]
    beside = any(row + STOCK in rows for row in ROWS)
    if beside:
        heads += ["stock Celery", "of the first of its kind"]
    for row, (title, _) in ROWS.items():
        stock = rows.get(row + STOCK, [])
        for place, (amount, rate) in enumerate(rows[row]):
            made.append([f"{amount:,} {title}", number(rate), share(rows[row], rate)])
            if beside and stock:
                made[-1] += [number(stock[place][1]), share(stock, stock[place][1])]
            elif beside:
                made[-1] += ["", ""]
    return table(heads, *made)


def share(points, rate):
    """Of the first point."""
    return f"{100 * rate / points[0][1]:.0f} %"


def short(amount):
    """1, 10k, 1M."""
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if amount >= unit:
            return f"{amount / unit:g}{letter}"
    return str(amount)


def svg(rows):
    """The picture."""
    most = max(rate for points in rows.values() for _, rate in points)
    step = next(step for step in (100, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000) if most / step <= 8)
    top = step * (int(most / step) + 1)
    width = (WIDTH - LEFT - GAP * len(ROWS)) / len(ROWS)

    def y(rate):
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * rate / top, 1)

    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Tasks per second by what grows">',
        f"<style>{STYLE}{STOCK_STYLE if any(row + STOCK in rows for row in ROWS) else ''}</style>", f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="26">No-op tasks per second, by what grows</text>',
    ]
    made += [f'<text x="{LEFT - 8}" y="{y(rate) + 4.5:g}" text-anchor="end">{rate:,}</text>' for rate in range(0, top + 1, step)]
    for at, (row, (_, title)) in enumerate(ROWS.items()):
        left = round(LEFT + at * (width + GAP), 1)
        made.append(f'<text class="panel" x="{left:g}" y="{TOP - 12}">{title}</text>')
        made += [f'<path class="grid" d="M{left:g} {y(rate)}h{width:g}"/>' for rate in range(0, top + 1, step)]
        points = rows[row]

        def spots_of(points):
            return [(round(left + width * (place + 0.5) / len(points), 1), y(rate)) for place, (_, rate) in enumerate(points)]

        if stock := rows.get(row + STOCK):
            made.append('<path class="stock" d="M' + "L".join(f"{x} {height}" for x, height in spots_of(stock)) + '"/>')
            made += [f'<circle class="stock" cx="{x}" cy="{height}" r="4"/>' for x, height in spots_of(stock)]
            made.append(f'<text x="{left + width - 4:g}" y="{TOP + 14}" text-anchor="end">dashed: stock Celery</text>')
        spots = spots_of(points)
        made.append('<path class="line" d="M' + "L".join(f"{x} {height}" for x, height in spots) + '"/>')
        for (x, height), (amount, _) in zip(spots, points):
            made.append(f'<circle cx="{x}" cy="{height}" r="4"/>')
            made.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{short(amount)}</text>')
    return "\n".join([*made, "</svg>"]) + "\n"
