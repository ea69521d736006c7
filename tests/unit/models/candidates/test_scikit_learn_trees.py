"""Random forest and histogram boosting: what both must hold, since both are kept as ONNX."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from evergreen.errors import TrainingError
from evergreen.models import onnx_trees
from evergreen.models.candidate import candidate_class
from evergreen.models.candidates.random_forest import RandomForest
from evergreen.models.onnx_trees import TOLERANCE
from evergreen.models.params import resolve

SMALL = {
    "random_forest": {"trees": 15, "max_leaf_nodes": 60, "min_samples_leaf": 2, "negative_share": 0.5},
    "hist_boosting": {"rounds": 25, "max_leaf_nodes": 8, "min_samples_leaf": 5, "negative_share": 0.5},
}
pytestmark = pytest.mark.parametrize("model", SMALL)


def fitted(model, train, validation, *, seed=3, threads=1, **params):
    kind = candidate_class(model)
    candidate = kind()
    resolved = resolve(model, SMALL[model] | params, kind.ranges)
    return candidate, candidate.fit(train, validation, resolved, seed=seed, threads=threads)


def test_the_graph_scores_as_scikit_learn_does_missing_values_too(model, train, validation, monkeypatch):
    compared = []
    original = onnx_trees.check_parity

    def spy(name, scores, expected):
        compared.append((name, scores, expected))
        return original(name, scores, expected)

    monkeypatch.setattr(onnx_trees, "check_parity", spy)
    candidate, report = fitted(model, train, validation)
    [(name, scores, expected)] = compared
    assert name == model
    assert np.isnan(validation.matrix).any(axis=1).sum() > 50  # what is compared has gaps
    assert np.abs(scores - expected).max() <= TOLERANCE
    assert report["onnx_difference"] <= TOLERANCE
    np.testing.assert_array_equal(scores, candidate.predict(validation.matrix))


@pytest.mark.fault
@pytest.mark.parametrize("fault", ["missing", "thresholds"])
def test_a_graph_of_another_model_is_not_kept(model, fault, train, validation, monkeypatch, tmp_path):
    fitted(model, train, validation)  # control
    if fault == "thresholds":
        monkeypatch.setattr(onnx_trees, "_rounded_down", lambda values: values.astype(np.float32) + np.float32(1))
    else:
        original = onnx_trees.OnnxTrees.predict
        monkeypatch.setattr(
            onnx_trees.OnnxTrees, "predict", lambda self, matrix: original(self, np.nan_to_num(matrix, nan=-1e9))
        )
    with pytest.raises(TrainingError, match=rf"model {model}: its ONNX graph differs from scikit-learn by 0\.\d+ \("):
        fitted(model, train, validation)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_seed_gives_the_same_bytes_with_any_number_of_threads(model, threads, train, validation):
    first, _ = fitted(model, train, validation)
    second, _ = fitted(model, train, validation, threads=threads)
    assert first.trees.content == second.trees.content
    assert fitted(model, train, validation, seed=4)[0].trees.content != first.trees.content


def test_what_was_saved_scores_the_same_row_by_row(model, train, validation, tmp_path):
    candidate, _ = fitted(model, train, validation)
    candidate.save(tmp_path)
    loaded = candidate_class(model).load(tmp_path)
    scores = candidate.predict(validation.matrix)
    np.testing.assert_array_equal(loaded.predict(validation.matrix), scores)
    alone = np.concatenate([loaded.predict(validation.matrix[row : row + 1]) for row in range(20)])
    np.testing.assert_array_equal(alone, scores[:20])
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))  # any runtime may read it


def test_nothing_to_predict_before_it_was_fitted(model, train):
    with pytest.raises(TrainingError, match="fit or load it first"):
        candidate_class(model)().predict(train.matrix)


def test_a_file_that_is_no_graph_is_refused(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"junk")
    with pytest.raises(ValueError, match="no ONNX graph"):
        candidate_class(model).load(tmp_path)


def test_boosting_keeps_its_best_round(model, train, validation):
    """A forest has no best round: it keeps all of its trees."""
    candidate, report = fitted(model, train, validation)
    graph = onnx.load_from_string(candidate.trees.content).graph
    trees = next(one for one in graph.node[0].attribute if one.name == "nodes_treeids").ints
    assert len(set(trees)) == report["best_iteration"]
    if isinstance(candidate, RandomForest):
        assert report["best_iteration"] == 15
    else:
        many = fitted(model, train, validation, rounds=400, learning_rate=0.5, early_stopping_rounds=5)[1]
        assert 1 <= many["best_iteration"] < 100
