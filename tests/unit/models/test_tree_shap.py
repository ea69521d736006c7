from __future__ import annotations

import json
from itertools import combinations
from math import factorial

import numpy as np
import pytest
import shap
import xgboost

from evergreen.models.contributions import Contributing, Contributions, linear_contributions, log_odds
from evergreen.models.tree_shap import LEAF, Tree, TreeShap, booster_values, max_path, xgboost_trees


def trained(depth: int, columns: int = 9, rounds: int = 12, **params: float) -> tuple[xgboost.Booster, np.ndarray]:
    rng = np.random.default_rng(depth)
    matrix = rng.normal(size=(1_500, columns)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    matrix[:, -1] = rng.integers(0, 4, len(matrix))
    filled = np.nan_to_num(matrix)
    labels = filled[:, 0] * filled[:, 1] + filled[:, 2] + (filled[:, -1] == 2) + rng.normal(size=len(matrix)) > 0
    settings = {"objective": "binary:logistic", "max_depth": depth, "nthread": 1, "seed": 1, **params}
    return xgboost.train(settings, xgboost.DMatrix(matrix, labels), rounds), matrix


def tabulated(booster: xgboost.Booster, columns: int, bits: int) -> TreeShap:
    trees, base = xgboost_trees(json.loads(bytes(booster.save_raw("json"))))
    return TreeShap(trees, base, columns, bits)


@pytest.mark.parametrize("bits", [1, 4, 10, 14])
@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_values_are_those_of_the_shap_package(depth: int, bits: int) -> None:
    booster, matrix = trained(depth)
    matrix = matrix[:300]
    found = tabulated(booster, matrix.shape[1], bits).values(matrix)
    peer = shap.TreeExplainer(booster)
    np.testing.assert_allclose(found[:, :-1], peer.shap_values(matrix), atol=2e-5)
    np.testing.assert_allclose(found[:, -1], peer.expected_value, atol=2e-5)


def test_rows_add_up_to_the_margin_also_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    booster, matrix = trained(6)
    monkeypatch.setattr("evergreen.models.tree_shap.BLOCK_ROWS", 64)
    found = booster_values(booster, matrix)
    margin = booster.predict(xgboost.DMatrix(matrix), output_margin=True)
    np.testing.assert_allclose(found.sum(axis=1), margin, atol=2e-5)


def test_trees_too_long_for_tables_are_walked_by_xgboost(monkeypatch: pytest.MonkeyPatch) -> None:
    booster, matrix = trained(6)
    assert max_path(xgboost_trees(json.loads(bytes(booster.save_raw("json"))))[0]) > 3
    monkeypatch.setattr("evergreen.models.tree_shap.TABLE_BITS", 3)
    monkeypatch.setattr("evergreen.models.tree_shap.TreeShap", None)
    found = booster_values(booster, matrix[:50])
    margin = booster.predict(xgboost.DMatrix(matrix[:50]), output_margin=True)
    np.testing.assert_allclose(found.sum(axis=1), margin, atol=1e-4)


def a_tree() -> Tree:
    """Four features, one of them twice on a path: 0 -> (1 -> leaf, 0 again) and (2 -> (3), leaf)."""
    return Tree(
        feature=np.array([0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0]),
        threshold=np.array([0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0], np.float32),
        missing_left=np.array([True, False, True, False, False, False, True, False, False, False, False]),
        left=np.array([1, 3, 5, LEAF, 7, LEAF, 9, LEAF, LEAF, LEAF, LEAF]),
        right=np.array([2, 4, 6, LEAF, 8, LEAF, 10, LEAF, LEAF, LEAF, LEAF]),
        cover=np.array([100, 60, 40, 20, 40, 10, 30, 15, 25, 12, 18], np.float64),
        value=np.array([0, 0, 0, 1.5, 0, -2.0, 0, 0.25, 3.0, -1.0, 0.75]),
    )


def known_value(tree: Tree, row: np.ndarray, known: frozenset[int], node: int = 0) -> float:
    """The game that Shapley values divide: unknown features go both ways, by the rows that did."""
    if tree.left[node] == LEAF:
        return float(tree.value[node])
    left, right = int(tree.left[node]), int(tree.right[node])
    feature = int(tree.feature[node])
    if feature in known:
        value = row[feature]
        goes_left = bool(tree.missing_left[node]) if np.isnan(value) else value < tree.threshold[node]
        return known_value(tree, row, known, left if goes_left else right)
    return sum(tree.cover[child] * known_value(tree, row, known, child) for child in (left, right)) / tree.cover[node]


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 10])
def test_values_are_those_of_shapleys_formula_over_all_subsets(bits: int) -> None:
    tree, count = a_tree(), 4
    rows = np.random.default_rng(0).normal(size=(25, count)).astype(np.float32)
    rows[rows > 1.2] = np.nan
    found = TreeShap([tree], 0.3, count, bits).values(rows)
    for row, values in zip(rows, found, strict=True):
        for feature in range(count):
            others = [other for other in range(count) if other != feature]
            exact = sum(
                factorial(size) * factorial(count - size - 1) / factorial(count)
                * (known_value(tree, row, frozenset({*group, feature})) - known_value(tree, row, frozenset(group)))
                for size in range(count)
                for group in combinations(others, size)
            )  # fmt: skip
            assert values[feature] == pytest.approx(exact, abs=1e-12)
        assert values[-1] == pytest.approx(0.3 + known_value(tree, row, frozenset()))


def test_what_the_tables_do_not_know_is_refused() -> None:
    booster, _ = trained(2)
    document = json.loads(bytes(booster.save_raw("json")))
    document["learner"]["objective"]["name"] = "reg:squarederror"
    with pytest.raises(ValueError, match="objective is reg:squarederror, expected binary:logistic"):
        xgboost_trees(document)
    document["learner"]["objective"]["name"] = "binary:logistic"
    document["learner"]["gradient_booster"]["model"]["trees"][0]["split_type"] = [1]
    with pytest.raises(ValueError, match="splits on categories"):
        xgboost_trees(document)


def test_a_linear_model_adds_weight_times_distance_from_the_mean() -> None:
    rng = np.random.default_rng(1)
    matrix, background = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(1, 1, (50, 3)).astype(np.float32)
    weights = np.array([0.5, -1.0, 0.0])
    found = linear_contributions(matrix, background, weights, 0.2)
    np.testing.assert_allclose(found.margins, matrix @ weights + 0.2, atol=1e-6)
    np.testing.assert_allclose(found.values[:, 1], -(matrix[:, 1] - background[:, 1].mean()), atol=1e-6)
    assert not found.values[:, 2].any()


def test_several_models_are_averaged_in_log_odds_and_their_scores_as_they_are() -> None:
    one, other = np.array([[1.0, 0.0]]), np.array([[3.0, -2.0]])
    found = Contributions.of_models([one, other], "two")
    assert found.values.tolist() == [[2.0, -1.0]]
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert log_odds(np.array([0.0, 1.0])) == pytest.approx([-20.72, 20.72], abs=0.01)


def test_only_who_knows_them_has_contributions() -> None:
    from evergreen.models.candidates.ensemble import Ensemble
    from evergreen.models.candidates.xgboost import Xgboost

    assert isinstance(Xgboost(), Contributing)
    assert not isinstance(Ensemble(), Contributing)
