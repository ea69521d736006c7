from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from evergreen.evaluation.explanations.attribution import SAMPLED, attribute, drawn, sampled_contributions
from evergreen.models.calibration import sigmoid


@pytest.mark.parametrize("model", ["xgboost", "logistic", "heuristic", "hist_boosting"])
def test_contributions_rebuild_what_predict_gives(model, train, frame, few) -> None:
    bundle = train(model)
    found = attribute(bundle, frame, few)
    np.testing.assert_allclose(found.scores, bundle.scores(found.frame))
    np.testing.assert_allclose(found.rebuilt, found.scores, atol=1e-6)
    assert found.values.shape == (len(found.frame), len(bundle.features))
    assert (found.method == SAMPLED) == (model == "hist_boosting")


def test_one_model_adds_up_in_log_odds_too(train, frame, few) -> None:
    found = attribute(train("logistic"), frame, few)
    np.testing.assert_allclose(sigmoid(found.values.sum(axis=1) + found.base), found.scores, atol=1e-9)


def test_columns_of_one_feature_count_together(train, frame, few) -> None:
    found = attribute(train("logistic"), frame, few)
    assert found.features == ("pair_purchases", "pair_recency_days", "pair_gap_mean_days", "country")
    french = found.frame["country"].to_numpy() == "FR"
    assert found.values[french, 3].mean() > 0 > found.values[~french, 3].mean()


class Crossed:
    """log-odds = x0 * x1 + 2 * x2; x3 does nothing."""

    def predict(self, matrix):
        return sigmoid((matrix[:, 0] * matrix[:, 1] + 2 * matrix[:, 2]).astype(np.float64))


def test_sampling_tends_to_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(2)
    background = rng.normal(size=(7, 4)).astype(np.float32)
    row = np.array([1.0, 2.0, -0.5, 3.0], np.float32)

    def margin(values):
        return values[0] * values[1] + 2 * values[2]

    exact = np.zeros(4)
    for start in background:
        for order in permutations(range(4)):
            here = start.copy()
            for feature in order:
                before = margin(here)
                here[feature] = row[feature]
                exact[feature] += (margin(here) - before) / (24 * len(background))
    found = sampled_contributions(Crossed(), np.tile(row, (4_000, 1)), background, np.arange(4), seed=1)
    np.testing.assert_allclose(found.values[:, :-1].mean(axis=0), exact, atol=0.05)
    assert not found.values[:, 3].any()
    np.testing.assert_allclose(found.scores, Crossed().predict(row[None, :])[0])


def test_a_feature_of_two_columns_steps_once() -> None:
    rows = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    found = sampled_contributions(Crossed(), rows, rows, np.array([0, 0, 1, 2]), seed=1)
    assert found.values.shape == (6, 4)
    np.testing.assert_allclose(found.scores, Crossed().predict(rows))


def test_the_same_seed_draws_the_same_rows() -> None:
    assert drawn(10, 20, 1).tolist() == list(range(10))
    assert drawn(100, 5, 1).tolist() == drawn(100, 5, 1).tolist() == sorted(drawn(100, 5, 1))
    assert drawn(100, 5, 1).tolist() != drawn(100, 5, 2).tolist()
