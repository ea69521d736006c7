"""Gaps between slices against a slow oracle, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from evergreen.evaluation.fairness import fairness
from evergreen.evaluation.intervals import draws
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import EvaluationSettings


def gap(scores: Scores, inside: np.ndarray, threshold: float) -> tuple[float, float]:
    def one(rows: np.ndarray) -> tuple[float, float]:
        labels, probabilities = scores.labels[rows], scores.probabilities[rows]
        return (probabilities[labels == 1] >= threshold).mean(), np.log(probabilities.mean() / labels.mean())

    (recall, calibration), (recall_others, calibration_others) = one(inside), one(~inside)
    return recall - recall_others, calibration - calibration_others


def test_gaps_and_their_errors_equal_those_of_copied_rows(make_scores, quick: EvaluationSettings) -> None:
    scores = make_scores(3000, 60)
    rows = fairness(scores, quick)["rows"]
    assert {(row["dimension"], row["metric"]) for row in rows} == {("country", "recall"), ("country", "calibration")}
    threshold = quick.policy.decision_threshold
    names = np.unique(scores.customer_ids.astype(str))
    rows_of = [np.flatnonzero(scores.customer_ids == name) for name in names]
    for name in ("France", "United Kingdom"):
        recall, calibration = (
            next(r for r in rows if r["slice"] == name and r["metric"] == m) for m in ("recall", "calibration")
        )
        expected = gap(scores, scores.slices["country"] == name, threshold)
        assert (recall["gap"], calibration["gap"]) == pytest.approx(expected)
        samples = []
        for weights in draws(len(names), quick):
            drawn = np.concatenate([np.tile(rows_of[code], int(count)) for code, count in enumerate(weights) if count])
            copied = scores.take(drawn)
            samples.append(gap(copied, copied.slices["country"] == name, threshold))
        errors = np.array(samples).std(axis=0, ddof=1)
        assert (recall["standard_error"], calibration["standard_error"]) == pytest.approx(tuple(errors))


def test_a_model_that_is_blind_for_one_country_shows(make_scores, quick: EvaluationSettings) -> None:
    scores = make_scores(20_000, 400)
    blind = np.where(scores.slices["country"] == "France", 0.02, scores.probabilities)
    rows = fairness(Scores(scores.customer_ids, scores.product_ids, scores.labels, blind, scores.slices), quick)["rows"]
    french = {row["metric"]: row for row in rows if row["slice"] == "France"}
    assert french["recall"]["gap"] < -0.5
    assert french["calibration"]["gap"] < -1.0
    assert abs(french["recall"]["gap"]) > 10 * french["recall"]["standard_error"]


def test_dimensions_that_are_not_asked_for_are_left_out(make_scores, quick: EvaluationSettings) -> None:
    settings = quick.model_copy(update={"fairness": quick.fairness.model_copy(update={"dimensions": ("price_band",)})})
    assert {row["dimension"] for row in fairness(make_scores(3000, 60), settings)["rows"]} == {"price_band"}
    none = quick.model_copy(update={"fairness": quick.fairness.model_copy(update={"dimensions": ()})})
    assert fairness(make_scores(3000, 60), none)["rows"] == []
