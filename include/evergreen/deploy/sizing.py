"""What a platform of a given size needs, from costs that were measured: straight lines through two sizes or more.

A cost is `fixed + slope x lines`. Where fewer than two sizes were measured there is no line, and nothing is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LINES_A_DAY = (1_000_000, 10_000_000, 100_000_000)
HISTORY_DAYS = 600
WINDOW_HOURS = 2.0
EFFICIENCY = 0.6
"""Share of an executor core's time that does the work. An assumption: what is lost to shuffles and waiting."""


@dataclass(frozen=True)
class Line:
    """CPU seconds as a straight line over the lines of history."""

    fixed: float
    slope: float
    points: tuple[tuple[float, float], ...]  # lines, CPU seconds

    def at(self, lines: float) -> float:
        """CPU seconds for so many lines."""
        return self.fixed + self.slope * lines

    @property
    def largest(self) -> float:
        """The largest number of lines that was measured."""
        return max(lines for lines, _ in self.points)

    @property
    def worst_miss(self) -> float:
        """Largest distance of a measured cost from the line, as a share of the cost: with two points always 0."""
        return max(abs(self.at(lines) - cost) / cost for lines, cost in self.points)


@dataclass(frozen=True)
class Need:
    """What so many lines a day need."""

    lines_a_day: int
    history: int  # lines
    day_core_hours: float | None
    full_core_hours: float | None
    factor: float | None  # how many times the largest history that was measured

    @property
    def cores(self) -> int | None:
        """Executor cores that finish a day's features within `WINDOW_HOURS`."""
        if self.day_core_hours is None:
            return None
        return max(1, -(-int(self.day_core_hours * 100) // int(WINDOW_HOURS * EFFICIENCY * 100)))


def fit(points: Iterable[tuple[float, float]]) -> Line | None:
    """Least squares through points at two sizes or more; None with fewer, or where more lines would cost less."""
    given = tuple(sorted(points))
    if len({lines for lines, _ in given}) < 2:
        return None
    mean_lines = sum(lines for lines, _ in given) / len(given)
    mean_cost = sum(cost for _, cost in given) / len(given)
    spread = sum((lines - mean_lines) ** 2 for lines, _ in given)
    slope = sum((lines - mean_lines) * (cost - mean_cost) for lines, cost in given) / spread
    return None if slope <= 0 else Line(mean_cost - slope * mean_lines, slope, given)


def feature_costs(benchmark: Mapping[str, Any] | None) -> tuple[Line | None, Line | None]:
    """CPU seconds of a day's features and of a full rebuild over lines of history, from benchmarks/features.json."""
    lengths = (benchmark or {}).get("lengths", [])
    day, full = (
        fit((one["lines"], one[kind]["cpu_seconds"]) for one in lengths if kind in one) for kind in ("daily", "full")
    )
    return day, full


def needs(benchmark: Mapping[str, Any] | None) -> list[Need]:
    """For each of `LINES_A_DAY`. A day's own lines cost what a rebuild spends on each of its lines, in addition."""
    day, full = feature_costs(benchmark)
    found = []
    for lines in LINES_A_DAY:
        history = lines * HISTORY_DAYS
        found.append(
            Need(
                lines,
                history,
                None if day is None or full is None else (day.at(history) + full.slope * lines) / 3600,
                None if full is None else full.at(history) / 3600,
                None if full is None else history / full.largest,
            )
        )
    return found


def read_benchmark(folder: Path, name: str) -> dict[str, Any] | None:
    """A benchmark's figures, None where it was not measured.

    `name-*.json` are the same benchmark at other sizes: their `lengths` are added.
    """
    file = folder / f"{name}.json"
    if not file.is_file():
        return None
    found = dict(json.loads(file.read_text()))
    for other in sorted(folder.glob(f"{name}-*.json")):
        found["lengths"] = [*found.get("lengths", []), *json.loads(other.read_text()).get("lengths", [])]
    return found
