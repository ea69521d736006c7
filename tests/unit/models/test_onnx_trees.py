from __future__ import annotations

import numpy as np
import pytest

from evergreen.errors import TrainingError
from evergreen.models import onnx_trees
from evergreen.models.onnx_trees import EDGE, TOLERANCE, OnnxTrees, Tree, check_parity


def stump(threshold: float, *, low: float = 0.25, high: float = 0.75, missing_left: int = 0) -> Tree:
    return Tree(
        leaf=np.array([False, True, True]),
        feature=np.array([1, -2, -2]),
        threshold=np.array([threshold, -2.0, -2.0]),
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        missing_left=np.array([missing_left, 0, 0]),
        value=np.array([9.0, low, high]),
    )


def column(*values: float) -> np.ndarray:
    return np.column_stack([np.zeros(len(values)), values]).astype(np.float32)


def test_a_value_at_the_threshold_goes_left():
    trees = OnnxTrees.of([stump(3.0)], 2)
    assert trees.predict(column(2, 3, 4)).tolist() == [0.25, 0.25, 0.75]


@pytest.mark.parametrize(("missing_left", "expected"), [(1, 0.25), (0, 0.75)])
def test_a_missing_value_goes_where_the_tree_says(missing_left, expected):
    trees = OnnxTrees.of([stump(3.0, missing_left=missing_left)], 2)
    assert trees.predict(column(np.nan)) == expected


def test_a_threshold_between_two_neighbours_of_float32_tells_them_apart(monkeypatch):
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    above = float(high) - (float(high) - float(low)) / 4  # nearer to the upper one, to which a cast would round it
    tree = stump(above)
    assert OnnxTrees.of([tree], 2).predict(column(low, high)).tolist() == [0.25, 0.75]
    monkeypatch.setattr(onnx_trees, "_rounded_down", lambda thresholds: thresholds.astype(np.float32))
    assert OnnxTrees.of([tree], 2).predict(column(low, high)).tolist() == [0.25, 0.25]  # control


def test_trees_add_up_and_a_logistic_sum_is_a_probability():
    trees = [stump(3.0, low=-1, high=1), stump(5.0, low=0.5, high=2.0)]
    scores = OnnxTrees.of(trees, 2, base=-0.5, logistic=True).predict(column(2, 4, 6))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array([-1.0, 1.0, 2.5]))), rtol=1e-6)


def test_scores_never_reach_0_or_1():
    scores = OnnxTrees.of([stump(3.0, low=0.0, high=1.0)], 2).predict(column(2, 4))
    assert scores.tolist() == [EDGE, 1 - EDGE]


def test_the_same_trees_are_the_same_bytes():
    assert OnnxTrees.of([stump(3.0)], 2).content == OnnxTrees.of([stump(3.0)], 2).content
    assert OnnxTrees.of([stump(3.0)], 2).content != OnnxTrees.of([stump(3.5)], 2).content


@pytest.mark.parametrize("content", [b"", b"no graph", OnnxTrees.of([stump(3.0)], 2).content[:-9]])
def test_what_is_no_graph_is_a_value_error(content):
    with pytest.raises(ValueError, match="no ONNX graph that onnxruntime reads"):
        OnnxTrees(content)


@pytest.mark.fault
@pytest.mark.parametrize("by", [2 * TOLERANCE, np.nan])
def test_scores_that_differ_from_scikit_learn_are_refused_with_the_figures(by):
    expected = np.linspace(0.1, 0.9, 50)
    assert check_parity("random_forest", expected + TOLERANCE / 2, expected) <= TOLERANCE  # control
    scores = expected.copy()
    scores[[3, 4]] += by
    with pytest.raises(TrainingError, match=r"model random_forest: .* \(2 of 50 validation rows .* 1e-05\) and is not"):
        check_parity("random_forest", scores, expected)
