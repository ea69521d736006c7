"""Small SVG charts that need no library and no network, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = Sequence[float]
WIDTH, HEIGHT = 340.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 14.0, 10.0, 40.0  # left: the axis's name beside a number such as -2,000
MOST_TICKS = 8


@dataclass(frozen=True)
class Line:
    """A line of a chart. `style` is a CSS class: `model`, `champion`, `rival-0` .. `rival-2` or `guide`."""

    name: str
    points: Sequence[Point]
    style: str


@dataclass(frozen=True)
class Axis:
    """An axis from `low` or below to at least `reach`, with round ticks."""

    label: str
    reach: float = 1.0
    low: float = 0.0

    @property
    def step(self) -> float:
        """1, 2 or 5 times a power of ten, so that four to eight ticks reach the end."""
        length = self.reach - self.low
        power = 10.0 ** math.floor(math.log10(length))
        steps = (power / 10, power / 5, power / 2, power, 2 * power)
        return next(step for step in steps if step * MOST_TICKS >= length * 0.999)

    @property
    def ticks(self) -> list[float]:
        """From the beginning of the axis to its end."""
        first = math.floor(self.low / self.step + 1e-3)
        last = math.ceil(self.reach / self.step - 1e-3)
        return [number * self.step for number in range(first, last + 1)]


@dataclass(frozen=True)
class Frame:
    """The plotting area."""

    x: Axis
    y: Axis
    height: float = HEIGHT

    def at(self, point: Point) -> tuple[float, float]:
        """Pixels of a point; one beyond an axis lies at its end."""
        x = LEFT + _share(point[0], self.x) * (WIDTH - LEFT - RIGHT)
        y = self.height - BOTTOM - _share(point[1], self.y) * (self.height - TOP - BOTTOM)
        return x, y

    def draw(self) -> str:
        """Grid, ticks and labels."""
        parts = []
        end = self.height - BOTTOM
        for tick in self.x.ticks:
            x, _ = self.at((tick, 0.0))
            parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{end}"/>')
            parts.append(_text(x, end + 14, _tick(tick), "middle"))
        for tick in self.y.ticks:
            _, y = self.at((0.0, tick))
            parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            parts.append(_text(LEFT - 6, y + 4, _tick(tick), "end"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, self.height - 6, self.x.label, "middle"))
        middle = (TOP + end) / 2
        turned = f'transform="translate(11 {middle:.0f}) rotate(-90)" text-anchor="middle"'
        parts.append(f"<text {turned}>{escape(self.y.label)}</text>")
        return "".join(parts)


def line_chart(frame: Frame, lines: Sequence[Line]) -> str:
    """Lines over a grid; the first is drawn on top. The names stand in the page's common legend."""
    drawn = "".join(_polyline(frame, line) for line in reversed(lines) if line.points)
    return _svg(frame.draw() + drawn, f"{frame.y.label} against {frame.x.label}", frame.height)


def scatter_chart(frame: Frame, dots: Sequence[Point]) -> str:
    """Dots over a grid; those beyond its axes are left out."""
    drawn = "".join(
        f'<circle class="speck" cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>'
        for x, y in (frame.at(dot) for dot in dots if _inside(dot[0], frame.x) and _inside(dot[1], frame.y))
    )
    zero = ""
    if frame.y.ticks[0] < 0 < frame.y.ticks[-1]:
        zero = _polyline(frame, Line("nothing", [(frame.x.ticks[0], 0.0), (frame.x.ticks[-1], 0.0)], "guide"))
    return _svg(frame.draw() + zero + drawn, f"{frame.y.label} against {frame.x.label}", frame.height)


def heat_map(x: Sequence[object], y: Sequence[object], cells: Sequence[Sequence[float]], title: str) -> str:
    """A cell for each of `x` (left to right) and `y` (bottom to top), the stronger its colour the higher its value."""
    values = [value for line in cells for value in line]
    low, spread = min(values), (max(values) - min(values)) or 1.0
    width, height = (WIDTH - LEFT - RIGHT) / len(x), (HEIGHT - TOP - BOTTOM) / len(y)
    parts = []
    for column, line in enumerate(cells):
        left = LEFT + column * width
        parts.append(_text(left + width / 2, HEIGHT - BOTTOM + 14, _named(x[column]), "middle"))
        for row, value in enumerate(line):
            top = HEIGHT - BOTTOM - (row + 1) * height
            place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
            shade = 0.06 + 0.84 * (value - low) / spread
            parts.append(f'<rect class="cell" {place} fill-opacity="{shade:.2f}"><title>{value:.3g}</title></rect>')
    for row, name in enumerate(y):
        parts.append(_text(LEFT - 4, HEIGHT - BOTTOM - (row + 0.5) * height + 4, _named(name), "end"))
    return _svg("".join(parts), title)


def calibration_chart(curve: Sequence[Mapping[str, float | None]]) -> str:
    """Share bought against mean prediction, a dot a bin with its interval; perfect calibration is the diagonal."""
    values = [value for bin in curve for key in ("predicted", "high", "bought") if (value := bin[key]) is not None]
    largest = max([*values, 0.01])
    frame = Frame(Axis("Mean predicted probability", largest), Axis("Share bought again", largest))
    end = frame.x.ticks[-1]
    parts = [frame.draw(), _polyline(frame, Line("perfect", [(0, 0), (end, end)], "guide"))]
    dots: list[tuple[float, float]] = []
    for bin in curve:
        predicted, bought = bin["predicted"] or 0.0, bin["bought"] or 0.0
        dots.append((predicted, bought))
        x, y = frame.at((predicted, bought))
        if bin["low"] is not None and bin["high"] is not None:
            _, bottom = frame.at((predicted, bin["low"]))
            _, top = frame.at((predicted, bin["high"]))
            parts.append(f'<line class="whisker" x1="{x:.1f}" y1="{bottom:.1f}" x2="{x:.1f}" y2="{top:.1f}"/>')
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    parts.append(_polyline(frame, Line("model", dots, "model thin")))
    return _svg("".join(parts), "Calibration: share bought again against predicted probability")


def whisker(figures: Mapping[str, float | None], low: float, high: float, reference: float | None = None) -> str:
    """An interval as a bar with its estimate as a dot, on a scale from `low` to `high`; empty where not defined."""
    value, start, end = figures.get("value"), figures.get("low"), figures.get("high")
    if value is None or start is None or end is None or high <= low:
        return ""
    width, middle = 150.0, 9.0

    def x(number: float) -> float:
        return 4 + min(max((number - low) / (high - low), 0.0), 1.0) * (width - 8)

    guide = (
        f'<line class="line guide" x1="{x(reference):.1f}" y1="0" x2="{x(reference):.1f}" y2="18"/>'
        if reference is not None
        else ""
    )
    return (
        f'<svg class="bar" viewBox="0 0 {width:.0f} 18" role="img" aria-label="{start:.4g} to {end:.4g}">{guide}'
        f'<line class="whisker" x1="{x(start):.1f}" y1="{middle}" x2="{x(end):.1f}" y2="{middle}"/>'
        f'<circle class="dot" cx="{x(value):.1f}" cy="{middle}" r="3.5"/></svg>'
    )


def _polyline(frame: Frame, line: Line) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(frame.at, line.points))
    return f'<polyline class="line {line.style}" points="{points}"><title>{escape(line.name)}</title></polyline>'


def _share(value: float, axis: Axis) -> float:
    first, last = axis.ticks[0], axis.ticks[-1]
    return min(max((value - first) / (last - first), 0.0), 1.0)


def _inside(value: float, axis: Axis) -> bool:
    return axis.ticks[0] <= value <= axis.ticks[-1]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _named(point: object) -> str:
    return f"{point:.3g}" if isinstance(point, float | int) else str(point)[:9]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(content: str, title: str, height: float = HEIGHT) -> str:
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    return f'<svg class="chart" viewBox="{box}" role="img" aria-label="{escape(title)}">{content}</svg>'
