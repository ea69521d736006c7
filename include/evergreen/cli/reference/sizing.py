"""The page of sizes: what was measured, what is derived from it, and what nobody has measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evergreen.cli.reference.markdown import page, table
from evergreen.deploy.sizing import (
    EFFICIENCY,
    HISTORY_DAYS,
    WINDOW_HOURS,
    Line,
    Need,
    feature_costs,
    needs,
    read_benchmark,
)

NOT_MEASURED = "not measured"


def sizing_page(benchmarks: Path) -> str:
    """The page, from the JSON files of `benchmarks`."""
    features, online = read_benchmark(benchmarks, "features"), read_benchmark(benchmarks, "online-store")
    return page(
        "Sizes",
        "What 1, 10 and 100 million lines a day need, derived from `benchmarks/`. Each figure says whether it is "
        "**measured** or **derived**; what has no measurement at two sizes says so. "
        "`include/evergreen/deploy/sizing.py` holds the calculation.",
        "## Measured\n\n" + _measured(features) + "\n\n" + _online(online),
        "## Derived\n\n" + _derived(features),
        "## How\n\n" + _how(features),
    )


def _measured(features: Mapping[str, Any] | None) -> str:
    rows = [
        (
            f"{one['lines']:,}",
            str(one["days"]),
            _figure(one, "daily", "cpu_seconds"),
            _figure(one, "full", "cpu_seconds"),
            _figure(one, "daily", "wall_seconds"),
        )
        for one in (features or {}).get("lengths", [])
    ]
    headings = ("lines of history", "days", "a day's features, CPU s", "full rebuild, CPU s", "a day, wall s")
    return "Features, `./evergreen bench features`:\n\n" + (table(headings, rows) or f"{NOT_MEASURED}.")


def _figure(one: Mapping[str, Any], kind: str, name: str) -> str:
    value = one.get(kind, {}).get(name)
    return NOT_MEASURED if value is None else f"{value:,.1f}"


def _online(online: Mapping[str, Any] | None) -> str:
    if online is None:
        return f"Online store: {NOT_MEASURED}."
    ours, pairs = online["ways"]["ours"], online["pairs"]
    return (
        f"Online store (SQLite), `./evergreen bench online-store`, **one size**, {pairs:,} pairs: "
        f"{ours['bytes'] / pairs:,.0f} bytes a pair, {ours['first_load_cpu_seconds'] / pairs * 1e6:,.0f} CPU seconds a "
        "million pairs to load. One size shows no slope: nothing is derived from it."
    )


def _derived(features: Mapping[str, Any] | None) -> str:
    rows = [_row(need) for need in needs(features)]
    headings = (
        "lines a day",
        f"history of {HISTORY_DAYS} days, lines",
        "beyond what was measured",
        "a day's features, core hours",
        f"executor cores for {WINDOW_HOURS:g} h",
        "full rebuild, core hours",
        "lake, bytes",
        "Redis, bytes",
        "a candidate's training",
        "a day's scores",
    )
    return table(headings, rows)


def _row(need: Need) -> tuple[str, ...]:
    return (
        f"{need.lines_a_day:,}",
        f"{need.history:,}",
        NOT_MEASURED if need.factor is None else f"{need.factor:,.0f} times",
        _derived_figure(need.day_core_hours),
        _derived_figure(need.cores),
        _derived_figure(need.full_core_hours),
        *([NOT_MEASURED] * 4),
    )


def _derived_figure(value: float | None) -> str:
    if value is None:
        return NOT_MEASURED
    return f"derived: {value:,.1f}" if value < 100 and not isinstance(value, int) else f"derived: {value:,.0f}"


def _how(features: Mapping[str, Any] | None) -> str:
    day, full = feature_costs(features)
    return "\n".join(
        [
            f"- A day's features: {_line(day)}.",
            f"- A full rebuild: {_line(full)}.",
            "- A day costs its line at the whole history, and for each of its own lines what a rebuild spends on one.",
            "- What was measured are histories of different length of **one shop**. A larger shop has more customers "
            "and products in the same time: that its lines cost as much each is an assumption.",
            f"- Cores: core hours / ({WINDOW_HOURS:g} h x {EFFICIENCY:g}); {EFFICIENCY:g} is an assumption too.",
            "- These are straight lines drawn far beyond their points: a plan to measure by, not a promise. Measure at "
            "a tenth of your size first, `./evergreen sample --rows N` makes lines, and run `./evergreen docs` again.",
        ]
    )


def _line(line: Line | None) -> str:
    if line is None:
        return f"{NOT_MEASURED} at two sizes"
    sizes = len({lines for lines, _ in line.points})
    return (
        f"{line.fixed:.1f} CPU s + {line.slope * 1e6:.2f} CPU s a million lines of history, least squares over {sizes} "
        f"sizes up to {line.largest:,.0f} lines, which miss it by {line.worst_miss:.0%} at most"
    )
