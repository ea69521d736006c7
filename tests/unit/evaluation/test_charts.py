from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.evaluation.charts import (
    Axis,
    Frame,
    Line,
    calibration_chart,
    heat_map,
    line_chart,
    scatter_chart,
    whisker,
)


@given(st.floats(1e-6, 1e6))
def test_axes_reach_their_end_with_few_round_ticks(reach: float) -> None:
    axis = Axis("x", reach)
    assert axis.ticks[-1] >= reach * 0.99
    assert axis.ticks[-2] < reach
    assert 4 <= len(axis.ticks) <= 10
    assert f"{axis.step:.0e}"[0] in "125"


def test_a_share_is_drawn_from_zero_to_one() -> None:
    assert Axis("Recall").ticks == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_names_are_escaped() -> None:
    chart = line_chart(Frame(Axis("x"), Axis("y")), [Line("<b>", [(0, 0), (1, 1)], "model")])
    assert "&lt;b&gt;" in chart
    assert "<b>" not in chart


def test_a_bin_without_an_interval_is_a_bare_dot() -> None:
    chart = calibration_chart([{"pairs": 5.0, "predicted": 0.1, "bought": 0.2, "low": None, "high": None}])
    assert chart.count("<circle") == 1
    assert "whisker" not in chart


def test_a_bar_is_empty_where_the_figure_is_not_defined() -> None:
    assert whisker({"value": None, "low": None, "high": None}, 0.0, 1.0) == ""
    assert whisker({"value": 0.5, "low": 0.4, "high": 0.6}, 0.0, 1.0, 0.5).count("<line") == 2


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_an_axis_may_begin_anywhere(low: float, length: float) -> None:
    axis = Axis("x", low + length, low)
    assert axis.ticks[0] <= low + axis.step * 0.01
    assert axis.ticks[-1] >= low + length - axis.step * 0.01
    assert 4 <= len(axis.ticks) <= 11


def test_dots_beyond_the_axes_are_left_out() -> None:
    chart = scatter_chart(Frame(Axis("x", 10.0), Axis("y", 1.0, -1.0)), [(1, 0.5), (99, 0.5), (2, -3.0)])
    assert chart.count("<circle") == 1
    assert chart.count("guide") == 1


def test_the_colour_of_a_cell_is_the_stronger_the_higher_it_is() -> None:
    chart = heat_map(["a<b>", 2.0], [1.0, 2.0, 3.0], [[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]], "both")
    shades = [float(part.split('"')[0]) for part in chart.split('fill-opacity="')[1:]]
    assert shades == sorted(shades)
    assert len(shades) == 6
    assert "a&lt;b&gt;" in chart
