from __future__ import annotations

from collections import ChainMap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from evergreen.errors import EvaluationError
from evergreen.evaluation.drift import (
    Ordered,
    drift_report,
    drift_verdict,
    jensen_shannon_distance,
    population_stability_index,
)
from evergreen.evaluation.drift_page import sample_rows
from evergreen.features.registry import FEATURES
from evergreen.settings.evaluation import EvaluationSettings

DEFAULT = EvaluationSettings()


def features(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "customer_id": rng.integers(0, 100, rows).astype(str),
            "pair_recency_days": rng.integers(1, 365, rows),
            "avg_purchase_value": rng.lognormal(2, 1, rows),
            "pair_gap_mean_days": np.where(rng.random(rows) < 0.4, np.nan, rng.gamma(2, 20, rows)),
            "country": rng.choice(["United Kingdom", "France", None], rows, p=[0.8, 0.15, 0.05]),
            "month": np.full(rows, seed),
            "product_sales_lag_1d": np.full(rows, 10.0 * seed),
            "probability": rng.beta(1, 20, rows),
        }
    )


@pytest.fixture
def reference() -> pd.DataFrame:
    return features(20_000, seed=7)


@pytest.fixture
def current() -> pd.DataFrame:
    return features(5_000, seed=8)


def drifted(verdict: dict) -> set[str]:
    return {row["column"] for row in verdict["columns"] if row["drifted"]}


def test_the_same_world_is_stable_in_another_month(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    """`month` and yesterday's sales differ in every row: they are not judged."""
    verdict = drift_verdict(reference, current, DEFAULT)
    assert (verdict["verdict"], verdict["reason"], verdict["share_drifted"]) == ("stable", "", 0.0)
    assert verdict["excluded"] == ["customer_id", "month", "product_sales_lag_1d"]
    assert len(verdict["columns"]) == 4
    assert verdict["rows"] == {"reference": 20_000, "current": 5_000}


def test_without_exclusions_the_calendar_would_drift(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    rules = EvaluationSettings.model_validate({"drift": {"exclude": ["customer_id"]}})
    assert drifted(drift_verdict(reference, current, rules)) == {"month", "product_sales_lag_1d"}


def test_all_calendar_features_are_excluded() -> None:
    calendar = [feature.name for feature in FEATURES if feature.group == "calendar"]
    frame = pd.DataFrame({name: [1.0] for name in [*calendar, "total_purchases"]})
    assert drift_verdict(frame, frame, DEFAULT)["excluded"] == calendar


def test_each_kind_of_shift_is_found(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    moved = current.assign(
        avg_purchase_value=current["avg_purchase_value"] * 2,
        pair_gap_mean_days=current["pair_gap_mean_days"].fillna(0.0),
        country=current["country"].replace("France", "Spain"),
    )
    verdict = drift_verdict(reference, moved, DEFAULT)
    assert drifted(verdict) == {"avg_purchase_value", "pair_gap_mean_days", "country"}
    assert verdict["verdict"] == "drifted"
    assert verdict["reason"] == "75% of the columns drifted (limit 50%)"
    assert {row["column"]: row["test"] for row in verdict["columns"]} == {
        "pair_recency_days": "psi", "avg_purchase_value": "psi", "pair_gap_mean_days": "psi", "country": "jensenshannon"
    }  # fmt: skip


def test_moved_predictions_are_drift_whatever_the_columns_say(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    verdict = drift_verdict(reference, current.assign(probability=current["probability"] * 3), DEFAULT)
    assert verdict["share_drifted"] == 0
    assert verdict["verdict"] == "drifted"
    assert verdict["reason"].startswith("the predictions' PSI is")
    assert verdict["prediction"]["drifted"] is True


def test_without_predictions_only_features_are_judged(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    verdict = drift_verdict(reference.drop(columns="probability"), current, DEFAULT)
    assert verdict["prediction"] is None
    assert verdict["verdict"] == "stable"


def test_the_statistics_are_the_textbooks() -> None:
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    assert population_stability_index(old, new) == pytest.approx(2 * 0.3 * np.log(2.5))
    assert jensen_shannon_distance(old, new) == pytest.approx(jensenshannon(old, new, base=2))
    assert jensen_shannon_distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    assert jensen_shannon_distance(old, old) == 0.0


def test_bins_hold_equal_shares_and_missing_values_stand_apart() -> None:
    values = Ordered.of(np.append(np.arange(1000.0), [np.nan] * 250))
    assert values.shares(values.edges(10)) == pytest.approx([0.08] * 10 + [0.2], abs=1e-3)


@pytest.mark.parametrize("other", [6.0, 8.0, np.nan])
def test_another_value_in_a_constant_column_is_drift(other: float) -> None:
    constant = pd.DataFrame({"total_purchases": np.full(1000, 7.0)})
    assert drifted(drift_verdict(constant, constant, DEFAULT)) == set()
    assert drifted(drift_verdict(constant, constant.assign(total_purchases=other), DEFAULT)) == {"total_purchases"}


def test_a_column_of_few_values_has_a_bin_for_each_frequent_one() -> None:
    mostly_zero = Ordered.of(np.append(np.zeros(950), np.arange(1, 51)))
    assert mostly_zero.shares(mostly_zero.edges(10)) == pytest.approx([0, 0.95, 0.05, 0], abs=2e-3)
    assert len(Ordered.of([np.nan, np.inf]).edges(10)) == 0


def test_the_same_values_in_another_precision_are_no_drift() -> None:
    tenths = pd.DataFrame({"pair_rate_per_28d": np.tile([0.1, 0.2, 0.7], 400)})
    verdict = drift_verdict(tenths.astype(np.float32), tenths, DEFAULT)
    assert verdict["columns"][0]["statistic"] == pytest.approx(0.0)


@given(st.lists(st.one_of(st.integers(-3, 3), st.floats(-1e6, 1e6)), min_size=1, max_size=60), st.integers(2, 12))
@settings(deadline=None)
def test_bins_count_what_a_histogram_counts(values: list[float], bins: int) -> None:
    numbers = np.array(values, dtype=np.float32)
    ordered = Ordered.of(numbers)
    edges = ordered.edges(bins)
    assert (np.diff(edges) > 0).all()
    counted = ordered.shares(edges) * (len(numbers) + (len(edges) + 2) / 2) - 0.5
    expected = np.histogram(numbers, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
    assert counted[:-1] == pytest.approx(expected, abs=1e-6)
    assert counted[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("side", ["reference", "current"])
def test_empty_frames_are_refused(reference: pd.DataFrame, side: str) -> None:
    frames = {"reference": reference, "current": reference} | {side: reference.head(0)}
    with pytest.raises(EvaluationError, match=f"the {side} data have no rows"):
        drift_verdict(frames["reference"], frames["current"], DEFAULT)


def test_frames_without_a_common_column_are_refused(reference: pd.DataFrame) -> None:
    with pytest.raises(EvaluationError, match="no column in common"):
        drift_verdict(reference, reference[["customer_id", "probability"]], DEFAULT)


def test_the_sample_is_seeded_and_keeps_the_high_predictions(reference: pd.DataFrame) -> None:
    predictions = reference["probability"].to_numpy()
    rows = sample_rows(predictions, 500, seed=1)
    assert rows.tolist() == sample_rows(predictions, 500, seed=1).tolist()
    assert rows.tolist() != sample_rows(predictions, 500, seed=2).tolist()
    assert len(set(rows.tolist())) == 500
    wanted = [0.5, 0.9, 0.99]
    assert np.quantile(predictions[rows], wanted) == pytest.approx(np.quantile(predictions, wanted), rel=0.05)
    assert sample_rows(predictions, 50_000, seed=1).tolist() == list(range(20_000))


def test_arrays_by_name_are_judged_like_a_frame(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    arrays = {str(name): reference[name].to_numpy() for name in reference.columns if name != "probability"}
    with_predictions = ChainMap({"probability": reference["probability"].to_numpy()}, arrays)
    assert drift_verdict(with_predictions, current, DEFAULT) == drift_verdict(
        reference[list(with_predictions)], current, DEFAULT
    )


def test_the_evidently_page_shows_what_moved_most(
    reference: pd.DataFrame, current: pd.DataFrame, tmp_path: Path
) -> None:
    rules = EvaluationSettings.model_validate({"drift": {"report_rows": 300, "report_columns": 2}})
    moved = current.assign(
        avg_purchase_value=current["avg_purchase_value"] * 2, country=current["country"].replace("France", "Spain")
    )
    verdict = drift_report(
        reference, moved, rules, tmp_path / "deep" / "drift.html", reference_name="the challenger's own training data"
    )
    assert verdict["reference"] == "the challenger's own training data"
    assert len(verdict["columns"]) == 4
    page = Path(verdict["report"]).read_text()
    assert "avg_purchase_value" in page
    assert "country" in page
    assert "pair_recency_days" not in page
