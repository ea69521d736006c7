from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evergreen.evaluation.metrics import measure
from evergreen.evaluation.scores import Scores
from evergreen.evaluation.slices import OTHER, evaluate_slices, sizeable_slices, slice_labels
from evergreen.features.registry import NAMES
from evergreen.settings.evaluation import SliceSettings


@pytest.fixture
def features() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "country": ["France", None, "", "EIRE"],
            "customer_tenure_days": [0.0, 89.0, 90.0, 365.0],
            "price_tier": ["low", "mid", "unknown", "premium"],
            "product_age_days": [89.9, 90.0, np.nan, 400.0],
        }
    )


def test_labels_come_from_the_models_own_features(features: pd.DataFrame) -> None:
    assert set(features.columns) <= set(NAMES)
    assert {name: labels.tolist() for name, labels in slice_labels(features).items()} == {
        "country": ["France", "unknown", "unknown", "EIRE"],
        "tenure": ["under 90 days", "under 90 days", "90 to 364 days", "365 days or more"],
        "price_band": ["low", "mid", "unknown", "premium"],
        "product_age": ["new, under 90 days", "old", "unknown", "old"],
    }


def test_labels_of_plain_arrays_equal_those_of_a_frame(features: pd.DataFrame) -> None:
    arrays = {str(name): features[name].to_numpy() for name in features.columns}
    for name, labels in slice_labels(features).items():
        assert slice_labels(arrays)[name].tolist() == labels.tolist()


def test_labels_of_categories_are_their_names(features: pd.DataFrame) -> None:
    categories = features.astype({"country": "category", "price_tier": "category"})
    assert slice_labels(categories)["country"].tolist() == ["France", "unknown", "unknown", "EIRE"]


def scores_of(sizes: dict[str, int]) -> Scores:
    """So many customers with one pair each; every second one bought again."""
    labels = np.concatenate([[name] * size for name, size in sizes.items()]).astype(object)
    names = np.arange(len(labels)).astype(str).astype(object)
    bought = (np.arange(len(labels)) % 2).astype(np.int8)
    return Scores(names, names, bought, np.linspace(0, 1, len(labels)), {"country": labels})


def test_small_slices_are_joined() -> None:
    minimum = SliceSettings(min_pairs=20, min_positives=5, min_customers=5)
    slices = list(sizeable_slices(scores_of({"A": 30, "B": 50, "C": 10, "D": 15}), minimum))
    assert [(one.label, len(one.rows)) for one in slices] == [("B", 50), ("A", 30), (OTHER, 25)]


def test_what_is_too_small_even_when_joined_is_left_out() -> None:
    minimum = SliceSettings(min_pairs=20, min_positives=5, min_customers=5)
    assert [one.label for one in sizeable_slices(scores_of({"A": 30, "B": 5}), minimum)] == ["A"]


@pytest.mark.parametrize("limit", [{"min_pairs": 31}, {"min_positives": 16}, {"min_customers": 31}])
def test_each_minimum_counts(limit: dict[str, int]) -> None:
    loose = {"min_pairs": 1, "min_positives": 1, "min_customers": 2}
    assert len(list(sizeable_slices(scores_of({"A": 30}), SliceSettings(**loose)))) == 1
    assert list(sizeable_slices(scores_of({"A": 30}), SliceSettings(**(loose | limit)))) == []


def test_figures_of_a_slice_are_those_of_its_pairs_alone(make_scores, quick) -> None:
    scores = make_scores(4000, 100)
    rows = {(row["dimension"], row["slice"]): row for row in evaluate_slices(scores, quick)}
    assert set(rows) == {
        ("country", "France"), ("country", "United Kingdom"), ("price_band", "low"), ("price_band", "high")
    }  # fmt: skip
    french = scores.take(scores.slices["country"] == "France")
    row = rows["country", "France"]
    assert {name: figures["value"] for name, figures in row["metrics"].items()} == pytest.approx(measure(french, quick))
    assert row["base_rate"] == pytest.approx(french.labels.mean())
    assert (row["pairs"], row["positives"]) == (len(french), french.labels.sum())
