from __future__ import annotations

import numpy as np
import pytest

from evergreen.evaluation.metrics import measure
from evergreen.evaluation.readiness import Figures, Row, Status, as_json, overall, readiness
from evergreen.evaluation.report import evaluate
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import EvaluationSettings, FloorSettings

FLOORS = FloorSettings(roc_auc=0.7, average_precision_lift=2.0, calibration_error_share=0.5)
COUNTS = {"pairs": 10_000, "positives": 400, "customers": 900}


def figures(value: float, margin: float = 0.005) -> Figures:
    return {"value": value, "low": value - margin, "high": value + margin}


GOOD: dict[str, Figures] = {
    "roc_auc": figures(0.83),
    "average_precision": figures(0.25),
    "average_precision_lift": figures(6.0),
    "ece": figures(0.006),
}
HEURISTICS = {
    "frequency": {"roc_auc": figures(0.71), "average_precision": figures(0.15)},
    "recency": {"roc_auc": figures(0.68), "average_precision": figures(0.16)},
}


def table(counts=COUNTS, heuristics=HEURISTICS, **metrics: Figures) -> dict[str, Row]:
    return {row.name: row for row in readiness(counts, GOOD | metrics, heuristics, FLOORS)}


def test_a_good_model_passes_every_floor_without_advice() -> None:
    rows = list(table().values())
    assert overall(rows) is Status.PASSED
    assert {row.recommendation for row in rows} == {""}


@pytest.mark.parametrize(
    ("metric", "row", "seen", "status"),
    [
        ("roc_auc", "ROC AUC", figures(0.65), Status.FAILED),
        ("roc_auc", "ROC AUC", figures(0.702), Status.INCONCLUSIVE),
        ("roc_auc", "ROC AUC", {"value": 0.7, "low": 0.7, "high": 0.7}, Status.PASSED),
        ("average_precision_lift", "AP lift", figures(1.5), Status.FAILED),
        ("ece", "Calibration error (ECE)", figures(0.03), Status.FAILED),
        ("ece", "Calibration error (ECE)", figures(0.019), Status.INCONCLUSIVE),
        ("ece", "Calibration error (ECE)", figures(0.001), Status.PASSED),
        ("roc_auc", "ROC AUC above the best heuristic", figures(0.718), Status.INCONCLUSIVE),
        ("roc_auc", "ROC AUC above the best heuristic", figures(0.70), Status.FAILED),
        ("average_precision", "Average precision above the best heuristic", figures(0.165), Status.INCONCLUSIVE),
    ],
)
def test_each_floor(metric: str, row: str, seen: Figures, status: Status) -> None:
    found = table(**{metric: seen})[row]
    assert found.status is status
    assert bool(found.recommendation) is (status is not Status.PASSED)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision_lift", "ece", "average_precision"])
def test_a_missing_figure_fails(metric: str) -> None:
    undefined: Figures = {"value": None, "low": None, "high": None}
    assert overall(list(table(**{metric: undefined}).values())) is Status.FAILED


def test_no_heuristics_fail() -> None:
    row = table(heuristics={})["ROC AUC above the best heuristic"]
    assert (row.status, row.recommendation) == (Status.FAILED, "score the heuristics on the same holdout pairs")


def test_the_best_heuristic_is_the_best_on_that_metric() -> None:
    rows = table()
    assert "above frequency" in rows["ROC AUC above the best heuristic"].limit
    assert "above recency" in rows["Average precision above the best heuristic"].limit


@pytest.mark.parametrize("name", ["pairs", "positives", "customers"])
def test_too_few_labels_fail(name: str) -> None:
    row = table(counts=COUNTS | {name: 90})[f"Labelled {name}"]
    assert row.status is Status.FAILED
    assert row.recommendation.startswith("wait for")


def test_the_table_is_inconclusive_where_nothing_failed_but_something_is() -> None:
    document = as_json(list(table(roc_auc=figures(0.718)).values()))
    assert document["status"] == "inconclusive"
    assert {row["status"] for row in document["rows"]} == {"passed", "inconclusive"}


def test_a_constant_no_has_a_high_accuracy_and_is_not_ready() -> None:
    """Why no floor is on accuracy: docs/adr/0006-readiness-floors.md."""
    rng = np.random.default_rng(0)
    customers = rng.integers(0, 300, 10_000).astype(str).astype(object)
    labels = (rng.random(10_000) < 0.04).astype(np.int8)
    never = Scores(customers, customers, labels, np.zeros(10_000))
    evaluation = evaluate(never, EvaluationSettings(resamples=50), {})
    assert evaluation["metrics"]["accuracy"]["value"] == pytest.approx(0.96, abs=0.01)
    failed = {row["name"] for row in evaluation["readiness"]["rows"] if row["status"] == "failed"}
    assert {"ROC AUC", "AP lift", "Calibration error (ECE)"} <= failed


def test_a_useful_model_has_a_lower_accuracy_than_a_constant_no() -> None:
    """It recommends a contact from the break-even probability of 0.1 on, where nine in ten may go unanswered."""
    rng = np.random.default_rng(0)
    customers = rng.integers(0, 800, 40_000).astype(str).astype(object)
    probabilities = 1 / (1 + np.exp(-rng.normal(-4, 1.4, 40_000)))
    labels = (rng.random(40_000) < probabilities).astype(np.int8)
    useful = measure(Scores(customers, customers, labels, probabilities), EvaluationSettings())
    never = measure(Scores(customers, customers, labels, np.zeros(40_000)), EvaluationSettings())
    assert useful["accuracy"] < never["accuracy"] - 0.04
    assert useful["campaign_profit"] > 1000 > never["campaign_profit"] == 0
    assert useful["roc_auc"] > 0.8
