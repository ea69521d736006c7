from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from evergreen.models.calibration import BetaCalibration, logistic_weights, sigmoid


def draw(probabilities, seed=0):
    return (np.random.default_rng(seed).random(len(probabilities)) < probabilities).astype(np.int8)


def test_scores_that_are_right_stay_as_they_are():
    scores = np.random.default_rng(1).beta(1, 12, 200_000)
    fitted = BetaCalibration.fit(scores, draw(scores))
    assert np.abs(fitted.apply(scores) - scores).mean() < 0.003


@pytest.mark.parametrize("distort", [lambda p: p**2, np.sqrt, lambda p: p / (p + 10 * (1 - p))], ids=str)
def test_distorted_scores_are_straightened(distort):
    truth = np.random.default_rng(2).beta(1, 8, 200_000)
    scores = distort(truth)
    fitted = BetaCalibration.fit(scores, draw(truth))
    calibrated = fitted.apply(scores)
    for part in np.array_split(np.argsort(scores), 10):
        assert abs(calibrated[part].mean() - truth[part].mean()) < 0.01
    assert abs(scores.mean() - truth.mean()) > 5 * abs(calibrated.mean() - truth.mean())


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.floats(0.01, 3), st.floats(0.01, 3), st.floats(-5, 5))
def test_a_ranking_is_never_turned_round(scores, a, b, c):
    ordered = np.sort(np.array(scores))
    assert (np.diff(BetaCalibration(a, b, c).apply(ordered)) >= 0).all()


def test_scores_that_rank_the_wrong_way_are_not_turned_round():
    truth = np.random.default_rng(3).beta(2, 8, 20_000)
    fitted = BetaCalibration.fit(1 - truth, draw(truth))
    assert fitted.a >= 0
    assert fitted.b >= 0
    assert (np.diff(fitted.apply(np.linspace(0.01, 0.99, 50))) >= 0).all()


def test_the_state_survives_json():
    fitted = BetaCalibration(0.3, 1.7, -0.2)
    assert BetaCalibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_edges_have_finite_probabilities():
    probabilities = BetaCalibration(1.0, 1.0, 0.0).apply(np.array([0.0, 1.0]))
    assert np.isfinite(probabilities).all()
    assert probabilities[0] < 1e-8 < 1 - 1e-8 < probabilities[1]


def test_newton_finds_what_scikit_learn_finds():
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(5_000, 2)) * [1, 4]
    labels = draw(sigmoid(inputs @ [0.7, -0.3] - 2))
    reference = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(inputs, labels)
    np.testing.assert_allclose(
        logistic_weights(inputs, labels), [*reference.coef_[0], *reference.intercept_], atol=1e-3
    )


def test_separable_labels_give_finite_weights():
    inputs = np.linspace(-1, 1, 100)[:, None]
    assert np.isfinite(logistic_weights(inputs, (inputs[:, 0] > 0).astype(int))).all()
