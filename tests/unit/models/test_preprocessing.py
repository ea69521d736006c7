from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.models.preprocessing import Plan, Preprocessor, as_float32
from evergreen.models.text import TOKENS

FEATURES = [("spend", "number"), ("country", "category"), ("gap", "number")]
RAW = Plan(scale=False, one_hot=False)
SCALED = Plan(scale=True, one_hot=True, cap_quantile=0.01)


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    gap = rng.normal(30, 5, 1000)
    gap[:100] = np.nan
    return pd.DataFrame(
        {"spend": rng.lognormal(3, 1.5, 1000), "country": rng.choice(["UK", "UK", "FR", "DE"], 1000), "gap": gap}
    )


def test_trees_see_raw_numbers_with_missing_ones_and_codes(frame):
    made = Preprocessor.fit(RAW, FEATURES, frame)
    matrix = made.transform(frame, len(frame))
    assert made.names == ("spend", "country", "gap")
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[:, 0], frame["spend"].to_numpy(np.float32))
    np.testing.assert_array_equal(np.isnan(matrix[:, 2]), frame["gap"].isna())
    assert made.vocabularies["country"][0] == "UK"  # the most frequent is 0
    np.testing.assert_array_equal(
        matrix[:, 1], frame["country"].map({w: i for i, w in enumerate(made.vocabularies["country"])})
    )


def test_a_linear_model_sees_capped_imputed_scaled_numbers_and_a_column_a_category(frame):
    made = Preprocessor.fit(SCALED, FEATURES, frame)
    matrix = made.transform(frame, len(frame))
    columns = dict(zip(made.names, matrix.T, strict=True))
    assert not np.isnan(matrix).any()
    assert set(made.names) == {
        "spend",
        "country=UK",
        "country=FR",
        "country=DE",
        "country=(unknown)",
        "gap",
        "gap missing",
    }
    assert made.numbers["spend"].log  # a long tail
    assert not made.numbers["gap"].log
    for name in ("spend", "gap"):
        present = frame[name].notna().to_numpy()
        assert abs(columns[name][present].mean()) < 1e-3
        assert abs(columns[name][present].std() - 1) < 1e-3
    np.testing.assert_array_equal(columns["gap missing"], frame["gap"].isna().to_numpy(np.float32))
    assert (columns["gap"][frame["gap"].isna()] == 0).all()
    np.testing.assert_array_equal(sum(columns[f"country={w}"] for w in ("UK", "FR", "DE", "(unknown)")), 1)


def test_outliers_are_clipped_to_the_training_quantiles(frame):
    made = Preprocessor.fit(SCALED, FEATURES, frame)
    wild = frame.assign(gap=[1e30, -1e30] * 500)
    capped = made.transform(wild, len(wild))[:, list(made.names).index("gap")]
    low, high = frame["gap"].quantile([0.01, 0.99])
    state = made.numbers["gap"]
    np.testing.assert_allclose(capped[:2] * state.spread + state.centre, [high, low], rtol=1e-5)


@pytest.mark.parametrize("value", ["Atlantis", None, np.nan])
def test_a_category_that_was_never_seen_is_unknown(frame, value):
    new = frame.head(2).assign(country=pd.Series([value, "UK"], dtype=object))
    codes = Preprocessor.fit(RAW, FEATURES, frame).transform(new, 2)[:, 1]
    assert codes.tolist() == [-1, 0]
    scaled = Preprocessor.fit(SCALED, FEATURES, frame)
    assert scaled.transform(new, 2)[:, list(scaled.names).index("country=(unknown)")].tolist() == [1, 0]


def test_rare_categories_share_the_unknown_bucket():
    frame = pd.DataFrame({"country": ["a"] * 5 + ["b"] * 3 + ["c", "d"]})
    plan = Plan(scale=False, one_hot=False, max_categories=2)
    made = Preprocessor.fit(plan, [("country", "category")], frame)
    assert made.transform(frame, 10)[:, 0].tolist() == [0] * 5 + [1] * 3 + [-1, -1]


@pytest.mark.parametrize("plan", [RAW, SCALED])
def test_the_state_survives_json_bit_for_bit(frame, plan):
    made = Preprocessor.fit(plan, FEATURES, frame)
    again = Preprocessor.from_json(json.loads(json.dumps(made.to_json())))
    np.testing.assert_array_equal(made.transform(frame, 1000), again.transform(frame, 1000))


@given(st.permutations(range(20)))
def test_the_order_of_rows_does_not_change_categories(order):
    words = np.array(["a", "b", "c", "d"] * 5, object)
    fit = [Preprocessor.fit(RAW, [("w", "category")], {"w": one}).vocabularies for one in (words, words[list(order)])]
    assert fit[0] == fit[1]


def test_a_column_of_one_value_or_of_none_is_harmless():
    columns = {"same": np.full(5, 3.0), "none": np.full(5, np.nan)}
    made = Preprocessor.fit(SCALED, [("same", "number"), ("none", "number")], columns)
    matrix = made.transform(columns, 5)
    assert np.isfinite(matrix).all()
    assert (matrix == 0).all()


def test_numbers_come_as_float32_whatever_they_were():
    assert as_float32(np.array([1, 2])).dtype == np.float32
    np.testing.assert_array_equal(as_float32(np.array([1, None, "3"], object)), np.array([1, np.nan, 3], np.float32))
    np.testing.assert_array_equal(
        as_float32(np.array([1e300, -np.inf, 2.0])), np.array([np.nan, np.nan, 2], np.float32)
    )


def test_texts_and_steps_become_columns_of_their_own():
    frame = pd.DataFrame({"description": ["TEA SET", None, "tea-set"], "pair_step_1_days": [0.0, np.nan, 99.0]})
    features = [("description", "text"), ("pair_step_1_days", "sequence")]
    made = Preprocessor.fit(Plan(scale=True, one_hot=False, raw=True), features, frame)
    matrix = made.transform(frame, 3)
    assert made.names == (*(f"description {place}" for place in range(TOKENS)), "pair_step_1_days")
    np.testing.assert_array_equal(matrix[0, :TOKENS], matrix[2, :TOKENS])  # the same words
    assert (matrix[0, :8] >= 0).all()
    assert (matrix[0, 8:TOKENS] == -1).all()
    assert (matrix[1, :TOKENS] == -1).all()  # no text
    np.testing.assert_allclose(matrix[:, TOKENS], [0, -1, np.log(100)], rtol=1e-6)
    again = Preprocessor.from_json(made.to_json())
    np.testing.assert_array_equal(again.transform(frame, 3), matrix)


def test_what_a_plan_does_not_use_is_not_in_its_json(frame):
    """A key that came later would give every bundle of before another digest."""
    written = Preprocessor.fit(RAW, FEATURES, frame).to_json()["plan"]
    assert written == {"scale": False, "one_hot": False, "cap_quantile": 0.001, "max_categories": 32}
