"""The wait of quiet users over time, as SVG: one panel for each system, one logarithmic axis for all."""
import math

# Older lines of the history don't have the last one.
SYSTEMS = {
    "celery": "Celery, defaults", "celery_best": "Celery, prefetch 1, -O fair", "fairstalk": "fairstalk",
    "stagger": "fairstalk, stagger = true",
}
SERIES = {"others": "in other queues", "shared": "in the bulk user's queue"}
TICKS = {0.001: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1: "1 s", 10: "10 s", 100: "100 s", 1000: "1000 s"}
EVERY = 30
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 960, 400, 60, 76, 46, 18
STYLE = """
text { font: 13px system-ui, -apple-system, "DejaVu Sans", sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .panel { font-weight: 600 }
.page { fill: #ffffff } .grid { stroke: #d8dee4; fill: none } .moment { stroke: #57606a; stroke-dasharray: 4 3; fill: none }
.others { stroke: #0969da; fill: #0969da } .shared { stroke: #cf4a00; fill: #cf4a00 }
path.line { fill: none; stroke-width: 2; stroke-linejoin: round } path.band { stroke: none; fill-opacity: 0.22 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .page { fill: #0d1117 } .grid { stroke: #30363d } .moment { stroke: #9198a1 }
  .others { stroke: #58a6ff; fill: #58a6ff } .shared { stroke: #ff9a52; fill: #ff9a52 }
}
"""


class Panel:
    """The place of one system's curves."""

    def __init__(self, number, of, seconds, waits):
        self.width = (WIDTH - LEFT - GAP * of) / of
        self.left = LEFT + number * (self.width + GAP)
        self.seconds, self.waits = seconds, waits

    def x(self, second):
        """Pixels of a moment."""
        first, last = self.seconds
        return round(self.left + self.width * (second - first) / (last - first), 1)

    def y(self, wait):
        """Pixels of a wait."""
        low, high = map(math.log10, self.waits)
        share = (math.log10(min(max(wait, self.waits[0]), self.waits[1])) - low) / (high - low)
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share, 1)

    def frame(self, title, labelled):
        """Grid and labels."""
        made = [f'<text class="panel" x="{self.left:g}" y="{TOP - 10}">{title}</text>']
        for tick in TICKS:
            if self.waits[0] <= tick <= self.waits[1]:
                made.append(f'<path class="grid" d="M{self.left:g} {self.y(tick)}h{self.width:g}"/>')
                if labelled:
                    made.append(f'<text x="{LEFT - 8}" y="{self.y(tick) + 4.5:g}" text-anchor="end">{TICKS[tick]}</text>')
        for second in range(0, math.ceil(self.seconds[1]) + 1, EVERY):
            if second <= self.seconds[1]:
                made.append(
                    f'<text x="{self.x(second)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{second} s</text>'
                )
        made.append(f'<path class="moment" d="M{self.x(0)} {TOP}V{HEIGHT - BOTTOM}"/>')
        return made

    def curve(self, name, points):
        """A band from the shortest to the longest wait of each second, and a line through the medians."""
        middle = [(self.x(second + 0.5), low, median, high) for second, low, median, high in points]
        line = "L".join(f"{x} {self.y(median)}" for x, _, median, _ in middle)
        upper = [f"{x} {self.y(high)}" for x, _, _, high in middle]
        lower = [f"{x} {self.y(low)}" for x, low, _, _ in reversed(middle)]
        return [
            f'<path class="band {name}" d="M{"L".join(upper + lower)}Z"/>', f'<path class="line {name}" d="M{line}"/>',
        ]


def svg(figures):
    """The picture; `figures` are those of the part `quiet`."""
    systems = {key: title for key, title in SYSTEMS.items() if key in figures}
    points = [point for key in systems for series in SERIES for point in figures[key]["over_time"][series]]
    seconds = (min(point[0] for point in points), max(point[0] for point in points) + 1)
    longest = max(point[3] for point in points)
    waits = (0.001, next((tick for tick in TICKS if tick >= longest), max(TICKS)))
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Wait of quiet users">',
        f"<style>{STYLE}</style>", f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="26">Wait of quiet users; one user floods a queue at 0 s</text>',
    ]
    x = WIDTH - 390
    for name, title in SERIES.items():
        made.append(f'<path class="line {name}" d="M{x} 21h24"/><text x="{x + 30}" y="26">{title}</text>')
        x += 165
    for number, (key, title) in enumerate(systems.items()):
        panel = Panel(number, len(systems), seconds, waits)
        made += panel.frame(title, labelled=number == 0)
        for series in SERIES:
            made += panel.curve(series, figures[key]["over_time"][series])
    made.append(
        f'<text x="{LEFT}" y="{HEIGHT - 8}">Moment of the call, in seconds since the flood. Line: median of the calls of a '
        "second; band: shortest to longest wait.</text>"
    )
    return "\n".join([*made, "</svg>"]) + "\n"
