from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evergreen.evaluation.explanations.effects import (
    accumulated_local_effects,
    grid_of,
    interactions,
    partial_dependence,
)
from evergreen.evaluation.explanations.local import lime
from evergreen.models.calibration import sigmoid


@pytest.fixture
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x = rng.normal(size=500)
    return pd.DataFrame({"x": x, "y": 0.9 * x + 0.1 * rng.normal(size=500), "kind": rng.choice(["a", "b"], 500)})


def linear(frame: pd.DataFrame) -> np.ndarray:
    return 2 * frame["x"].to_numpy() - frame["y"].to_numpy() + 3.0 * (frame["kind"] == "a").to_numpy()


def test_partial_dependence_of_a_linear_model_is_its_line(rows) -> None:
    effect = partial_dependence(linear, rows, "x")
    slope = np.diff(effect.values) / np.diff(np.array(effect.points))
    np.testing.assert_allclose(slope, 2.0)
    rest = (linear(rows) - 2 * rows["x"]).mean()
    np.testing.assert_allclose(effect.values, 2 * np.array(effect.points) + rest)


def test_accumulated_effects_of_a_linear_model_have_its_slope_and_mean_zero(rows) -> None:
    effect = accumulated_local_effects(linear, rows, "x")
    points = np.array(effect.points)
    np.testing.assert_allclose(np.diff(effect.values) / np.diff(points), 2.0)
    middles = np.interp(rows["x"], points, effect.values)
    assert abs(middles.mean()) < 0.1


def test_accumulated_effects_ask_for_no_pair_of_values_that_is_not_there(rows) -> None:
    rows["x"] = np.random.default_rng(3).uniform(-2, 2, len(rows))
    rows["y"] = 0.9 * rows["x"]

    def cliff(frame: pd.DataFrame) -> np.ndarray:
        strange = np.abs(frame["x"] - frame["y"]) > 1.5
        return np.where(strange, 100.0, frame["x"])

    assert np.abs(accumulated_local_effects(cliff, rows, "x").values).max() < 5
    assert np.abs(partial_dependence(cliff, rows, "x").values).max() > 20, (
        "the control: partial dependence falls for it"
    )


def test_a_category_has_a_mean_for_each_name(rows) -> None:
    effect = partial_dependence(linear, rows, "kind")
    found = dict(zip(effect.points, effect.values, strict=True))
    assert found["a"] - found["b"] == pytest.approx(3.0)


def test_missing_and_constant_numbers_have_no_effect_to_tell(rows) -> None:
    gone = rows.assign(x=np.nan)
    assert partial_dependence(linear, gone, "x").points == ()
    assert accumulated_local_effects(linear, gone, "x").points == ()
    assert accumulated_local_effects(linear, rows.assign(x=1.0), "x").values.tolist() == [0.0]
    some = rows.assign(x=rows["x"].where(rows.index % 3 > 0))
    np.testing.assert_allclose(np.diff(accumulated_local_effects(linear, some, "x").values).min() > 0, True)


def test_the_grid_of_categories_is_by_frequency_then_name() -> None:
    assert grid_of(pd.Series(["b", "a", "c", "c"]), 5) == ("c", "a", "b")


def test_a_product_interacts_and_a_sum_does_not(rows) -> None:
    rows = rows.assign(y=np.random.default_rng(2).normal(size=len(rows)), z=1.0 + np.arange(len(rows)) % 5)
    found = interactions(lambda frame: (frame["x"] * frame["y"] + frame["z"]).to_numpy(), rows, ["x", "y", "z"])
    assert found[0].features == ("x", "y")
    assert found[0].strength > 0.9
    assert max(pair.strength for pair in found[1:]) < 0.15


def test_lime_finds_the_weights_of_what_is_linear_in_presence(rows) -> None:
    row = pd.DataFrame({"x": [2.0], "y": [0.0], "kind": ["a"]})
    background = pd.DataFrame({"x": [0.0] * 5, "y": [0.0] * 5, "kind": ["b"] * 5})
    found = lime(lambda frame: sigmoid(linear(frame)), row, background, samples=800, seed=1)
    assert list(found.weights) == ["x", "kind", "y"]
    assert found.weights["x"] == pytest.approx(4.0, rel=0.05)
    assert found.weights["kind"] == pytest.approx(3.0, rel=0.05)
    assert found.weights["y"] == pytest.approx(0.0, abs=0.05)
    assert found.fit > 0.99


def test_lime_says_where_it_does_not_fit() -> None:
    row = pd.DataFrame({"x": [1.0], "y": [1.0]})
    background = pd.DataFrame({"x": [-1.0] * 3, "y": [-1.0] * 3})
    found = lime(lambda frame: sigmoid(4.0 * frame["x"] * frame["y"]), row, background, seed=1)
    assert found.fit < 0.5
