from __future__ import annotations

import json

import numpy as np
import pytest

from evergreen.errors import TrainingError
from evergreen.models.candidate import Sample, candidate_class
from evergreen.models.candidates import ensemble
from evergreen.models.candidates.ensemble import Ensemble, blend
from evergreen.models.params import resolve
from evergreen.models.preprocessing import Preprocessor

MEMBERS = "random_forest,logistic,heuristic"


def fitted(train, validation, *, members=MEMBERS, seed=3):
    candidate = Ensemble()
    resolved = resolve("ensemble", {"members": members}, Ensemble.ranges)
    return candidate, candidate.fit(train, validation, resolved, seed=seed, threads=1)


@pytest.fixture(scope="module")
def stacked(train, validation):
    return fitted(train, validation)


@pytest.mark.parametrize("model", ["random_forest", "logistic"])
def test_a_member_is_what_it_would_be_by_itself(model, stacked, train, validation):
    kind = candidate_class(model)
    words = np.array(["a", "b", "c", None], object)

    def columns(sample):
        return {name: sample.matrix[:, at] for at, name in enumerate(train.names)} | {
            "country": words[sample.matrix[:, 3].astype(int)]
        }

    features = [(name, "category" if name == "country" else "number") for name in train.names]
    preprocessor = Preprocessor.fit(kind.plan, features, columns(train))

    def prepared(sample):
        if kind.plan == Ensemble.plan:  # the ensemble's own preprocessing has made the codes already
            return sample
        return Sample(preprocessor.transform(columns(sample), len(sample.labels)), sample.labels, preprocessor.names)

    alone = kind()
    alone.fit(prepared(train), prepared(validation), resolve(model, {}, kind.ranges), seed=3, threads=1)
    member = next(one for one in stacked[0].members if one.model == model)
    scores = 1 / (1 + np.exp(-member.log_odds(validation.matrix, train.names)))
    np.testing.assert_allclose(scores, alone.predict(prepared(validation).matrix), rtol=1e-6)


def test_the_blend_sees_no_row_that_a_member_learned_from(train, validation, monkeypatch):
    seen = []

    def spy(inputs, labels):
        seen.append((inputs, labels))
        return blend(inputs, labels)

    monkeypatch.setattr(ensemble, "blend", spy)
    candidate, _ = fitted(train, validation)
    [(inputs, labels)] = seen
    assert labels is validation.labels
    expected = [member.log_odds(validation.matrix, train.names) for member in candidate.members]
    np.testing.assert_array_equal(inputs, np.column_stack(expected))


def test_the_blend_is_no_worse_than_its_best_member(stacked, validation):
    def loss(scores):
        return -np.mean(np.where(validation.labels == 1, np.log(scores), np.log1p(-scores)))

    candidate, report = stacked
    assert set(report["weights"]) == set(MEMBERS.split(","))
    members = [one.candidate.predict(one.matrix(validation.matrix, candidate.names)) for one in candidate.members]
    assert loss(candidate.predict(validation.matrix)) <= min(loss(scores) for scores in members)


def test_weights_are_those_that_made_the_labels():
    rng = np.random.default_rng(8)
    inputs = rng.normal(0, 1.5, (60_000, 2))
    labels = (rng.random(len(inputs)) < 1 / (1 + np.exp(-(0.7 * inputs[:, 0] + 0.3 * inputs[:, 1] - 1)))).astype(
        np.int8
    )
    weights, intercept = blend(inputs, labels)
    np.testing.assert_allclose([*weights, intercept], [0.7, 0.3, -1], atol=0.05)


def test_a_member_that_would_be_subtracted_gets_no_weight():
    rng = np.random.default_rng(8)
    inputs = rng.normal(0, 1.5, (5_000, 3))
    labels = (rng.random(len(inputs)) < 1 / (1 + np.exp(inputs[:, 1] - inputs[:, 0]))).astype(np.int8)
    weights, _ = blend(inputs, labels)
    assert weights[1] == 0
    assert weights[0] > 0.3
    assert (weights >= 0).all()
    assert blend(-inputs[:, :1], labels)[0].tolist() == [0.0]  # nobody is left: the base rate


def test_what_was_saved_scores_the_same_row_by_row(stacked, validation, tmp_path):
    candidate, _ = stacked
    candidate.save(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "ensemble.json",
        *("heuristic/heuristic.json", "heuristic/preprocessing.json"),
        *("logistic/logistic.json", "logistic/preprocessing.json"),
        "random_forest/model.onnx",
    ]
    loaded = Ensemble.load(tmp_path)
    scores = candidate.predict(validation.matrix)
    np.testing.assert_array_equal(loaded.predict(validation.matrix), scores)
    alone = np.concatenate([loaded.predict(validation.matrix[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(alone, scores[:20], rtol=1e-12)  # a dot product sums one row in another order than many


def test_a_category_that_no_training_row_had_is_unknown(stacked, validation):
    strange, unknown = validation.matrix[:50].copy(), validation.matrix[:50].copy()
    strange[:, 3], unknown[:, 3] = 7, -1
    logistic = next(one for one in stacked[0].members if one.model == "logistic")
    names = stacked[0].names
    np.testing.assert_array_equal(logistic.log_odds(strange, names), logistic.log_odds(unknown, names))


def test_a_member_without_its_feature_is_refused_before_anything_is_trained():
    with pytest.raises(TrainingError, match="'pair_purchases', which the training set lacks"):
        Ensemble.features({"members": MEMBERS}, ["country"])
    assert Ensemble.features({"members": "logistic"}, ["country"]) == ["country"]


def test_a_member_that_this_code_does_not_know_is_a_value_error(stacked, tmp_path):
    stacked[0].save(tmp_path)
    state = json.loads((tmp_path / "ensemble.json").read_text())
    (tmp_path / "ensemble.json").write_text(json.dumps(state | {"members": ["oracle"], "weights": [1.0]}))
    with pytest.raises(ValueError, match="member oracle: model 'oracle' is unknown"):
        Ensemble.load(tmp_path)
