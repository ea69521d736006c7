"""Sizes: derived from measurements at two sizes or more, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evergreen.cli.reference.sizing import NOT_MEASURED, sizing_page
from evergreen.deploy.sizing import feature_costs, fit, needs


def benchmark(*sizes: tuple[int, float, float]) -> dict[str, Any]:
    """Of lines, CPU seconds of a day, CPU seconds of a rebuild."""
    return {
        "lengths": [
            {"lines": lines, "days": 1, "daily": {"cpu_seconds": day}, "full": {"cpu_seconds": full}}
            for lines, day, full in sizes
        ]
    }


def test_a_line_through_several_sizes_is_numpys() -> None:
    points = [(1e5, 27.0), (4e5, 33.0), (7e5, 40.5)]
    line = fit(points)
    assert line is not None
    slope, fixed = np.polyfit(*zip(*points, strict=True), 1)
    assert (line.slope, line.fixed) == pytest.approx((slope, fixed))
    assert line.worst_miss == pytest.approx(max(abs(np.polyval([slope, fixed], x) - y) / y for x, y in points))
    assert line.largest == 7e5


@pytest.mark.parametrize(
    "points",
    [[], [(1e5, 27.0)], [(1e5, 27.0), (1e5, 28.0)], [(1e5, 27.0), (2e5, 26.0)]],
    ids=["none", "one", "one size twice", "more lines cost less"],
)
def test_without_two_sizes_that_grow_there_is_no_line(points: list[tuple[float, float]]) -> None:
    assert fit(points) is None


def test_what_is_needed_is_the_line_at_the_whole_history_and_the_days_own_lines() -> None:
    """A day: 10 s + 1 s a million lines of history; a rebuild: 20 s + 100 s a million."""
    given = benchmark((1_000_000, 11.0, 120.0), (3_000_000, 13.0, 320.0))
    small, _, large = needs(given)
    assert small.history == 600_000_000
    assert small.day_core_hours == pytest.approx((10 + 600 + 100) / 3600)
    assert small.full_core_hours == pytest.approx((20 + 60_000) / 3600)
    assert small.factor == 200
    assert small.cores == 1
    assert large.day_core_hours == pytest.approx((10 + 60_000 + 10_000) / 3600)
    assert large.cores == 17  # 19.45 core hours in 2 hours at 0.6


@pytest.mark.parametrize("given", [None, {}, benchmark((1_000_000, 11.0, 120.0))])
def test_what_was_measured_at_one_size_is_not_derived(given: dict[str, Any] | None) -> None:
    assert feature_costs(given) == (None, None)
    assert {(need.day_core_hours, need.full_core_hours, need.cores) for need in needs(given)} == {(None, None, None)}


def test_the_page_says_what_was_not_measured(tmp_path: Path) -> None:
    assert "derived: " not in sizing_page(tmp_path)
    (tmp_path / "features.json").write_text(json.dumps(benchmark((10**6, 11.0, 120.0), (3 * 10**6, 13.0, 320.0))))
    text = sizing_page(tmp_path)
    row = next(line for line in text.splitlines() if line.startswith("| 1,000,000 | 600,000,000 |"))
    assert row.count("derived: ") == 3
    assert row.count(NOT_MEASURED) == 4, "nobody has measured bytes, training and scores at two sizes"
    assert "over 2 sizes up to 3,000,000 lines" in text
