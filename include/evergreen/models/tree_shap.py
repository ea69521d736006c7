"""Exact SHAP values of tree ensembles, by tables instead of by walking each tree for each row.

The values are those of path-dependent TreeSHAP (Lundberg et al. 2020, "From local explanations to global understanding
with explainable AI for trees", algorithm 2): a feature that is not known goes both ways, in the shares of the training
rows. For one leaf they depend on the row only by which features of its path agree with the path, so they are tabulated
once for each such pattern and looked up for each row (Yang 2021, "Fast TreeSHAP", version 2). Here a table covers not
one leaf but a whole subtree: its bits say which features of the path above agree, and which way each of its own splits
goes. The Shapley weights are integrals over [0, 1] of polynomials, which Gauss-Legendre nodes give exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
TABLE_BITS = 10  # a table of 2^10 rows fits the first cache; twice the bits are half the look-ups and twice the tables
BLOCK_ROWS = 16_384
LEAF = -1


@dataclass(frozen=True)
class Tree:
    """One tree as arrays over its nodes; node 0 is the root and `left` is `LEAF` where a node is a leaf.

    A row goes left where its value is below `threshold`, or missing and `missing_left`. `cover` is the weight of the
    training rows that reached the node, `value` what a leaf adds to the margin.
    """

    feature: npt.NDArray[np.int64]
    threshold: Matrix
    missing_left: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    cover: Floats
    value: Floats

    def expected(self) -> float:
        """Mean of the leaves by cover: what is predicted where nothing is known."""
        weights = self.cover / self.cover[0]
        return float(np.sum(np.where(self.left == LEAF, weights * self.value, 0.0)))


@dataclass(frozen=True)
class _Test:
    """A split that a row passes or not."""

    feature: int
    threshold: float
    missing_left: bool


Agreement = list[tuple[_Test, bool]]
"""Splits on one feature and the side that a row must take at each."""


@dataclass(frozen=True)
class _Leaf:
    """A leaf of a subtree: what each feature of its path needs to agree, and what it keeps where it is unknown."""

    value: float
    needs: dict[int, list[tuple[int, bool]]] = field(default_factory=dict)  # feature -> (bit, as it must be)
    shares: dict[int, float] = field(default_factory=dict)  # feature -> its share of the cover


@dataclass(frozen=True)
class _Subtree:
    """Leaves under one node. A bit is set where a row takes the given side at all of its splits; highest bit first."""

    bits: list[Agreement]
    leaves: list[_Leaf]


@dataclass(frozen=True)
class _Table:
    """SHAP values of a subtree for each pattern of its bits, float64[features, 2^bits]."""

    bits: list[Agreement]
    features: list[int]
    values: Floats


class TreeShap:
    """Tables of an ensemble whose margin is `base` plus the sum of its trees.

    Args:
        trees: the ensemble.
        base: margin before the first tree.
        columns: columns of the matrix that the trees read.
        table_bits: bits of a table at most; a leaf whose path has more features gets a table of its own all the same.
    """

    def __init__(self, trees: Sequence[Tree], base: float, columns: int, table_bits: int = TABLE_BITS) -> None:
        self.columns = columns
        self.expected = base + sum(tree.expected() for tree in trees)
        self._tables = [table for tree in trees for table in _tables(tree, table_bits)]

    def values(self, matrix: Matrix) -> Floats:
        """SHAP values in units of the margin, float64[rows, columns + 1]; the last column is the expected margin."""
        found = np.empty((len(matrix), self.columns + 1))
        found[:, -1] = self.expected
        starts = [*range(0, len(matrix), BLOCK_ROWS), len(matrix)]
        for start, end in pairwise(starts):
            found[start:end, :-1] = self._block(np.ascontiguousarray(matrix[start:end].T)).T
        return found

    def _block(self, columns: Matrix) -> Floats:
        total = np.zeros(columns.shape)
        found = np.empty(columns.shape[1])
        sides: dict[_Test, npt.NDArray[np.bool_]] = {}
        for table in self._tables:
            pattern = _pattern(table, columns, sides)
            for feature, values in zip(table.features, table.values, strict=True):
                total[feature] += np.take(values, pattern, out=found, mode="clip")
        return total


def booster_values(booster: Any, matrix: Matrix) -> Floats:
    """SHAP values of a binary XGBoost booster, float64[rows, columns + 1]: those of its `pred_contribs`.

    Tables grow with two to the power of a path's features: boosters with longer ones are walked by XGBoost itself.
    """
    import xgboost

    trees, base = xgboost_trees(json.loads(bytes(booster.save_raw("json"))))
    if max_path(trees) <= TABLE_BITS:
        return TreeShap(trees, base, matrix.shape[1]).values(matrix)
    values = booster.predict(xgboost.DMatrix(matrix), pred_contribs=True, validate_features=False)
    return np.asarray(values, np.float64)


def max_path(trees: Sequence[Tree]) -> int:
    """Most different features on any path: a leaf's table has 2 to that power rows."""
    longest = 0
    for tree in trees:
        stack: list[tuple[int, frozenset[int]]] = [(0, frozenset())]
        while stack:
            node, seen = stack.pop()
            longest = max(longest, len(seen))
            if tree.left[node] != LEAF:
                deeper = seen | {int(tree.feature[node])}
                stack += [(int(tree.left[node]), deeper), (int(tree.right[node]), deeper)]
    return longest


def xgboost_trees(document: Mapping[str, Any]) -> tuple[list[Tree], float]:
    """Trees and base margin of a binary XGBoost model, from what `save_raw("json")` holds.

    Raises:
        ValueError: the model has categorical splits or another objective; its own `pred_contribs` still explains it.
    """
    learner = document["learner"]
    objective = learner["objective"]["name"]
    if objective != "binary:logistic":
        raise ValueError(f"objective is {objective}, expected binary:logistic")
    score = float(learner["learner_model_param"]["base_score"].strip("[]"))
    trees = []
    for tree in learner["gradient_booster"]["model"]["trees"]:
        if any(tree.get("split_type", ())):
            raise ValueError("the model splits on categories, expected numbers only")
        left = np.asarray(tree["left_children"], np.int64)
        conditions = np.asarray(tree["split_conditions"], np.float32)
        trees.append(
            Tree(
                np.asarray(tree["split_indices"], np.int64),
                conditions,
                np.asarray(tree["default_left"], bool),
                left,
                np.asarray(tree["right_children"], np.int64),
                np.asarray(tree["sum_hessian"], np.float64),
                np.where(left == LEAF, conditions, 0.0).astype(np.float64),
            )
        )
    return trees, float(np.log(score / (1 - score)))


def _pattern(table: _Table, columns: Matrix, sides: dict[_Test, npt.NDArray[np.bool_]]) -> npt.NDArray[np.intp]:
    """Row of the table for each row of data."""
    pattern = np.zeros(columns.shape[1], np.uint32)
    for bit in table.bits:
        agrees: npt.NDArray[np.bool_] | None = None
        for test, wanted in bit:
            side = sides.get(test)
            if side is None:
                values = columns[test.feature]
                threshold = np.float32(test.threshold)
                side = sides[test] = ~(values >= threshold) if test.missing_left else values < threshold
            same = side if wanted else ~side
            agrees = same if agrees is None else agrees & same
        pattern <<= np.uint32(1)
        if agrees is not None:
            pattern |= agrees
    return pattern.astype(np.intp)


def _tables(tree: Tree, most_bits: int) -> list[_Table]:
    """Tables of the largest subtrees that have at most `most_bits` bits."""
    subtrees = list(_subtrees(tree, most_bits))
    values = iter(_leaf_values([leaf for subtree in subtrees for leaf in subtree.leaves]))
    return [_table(subtree, [next(values) for _ in subtree.leaves]) for subtree in subtrees]


def _subtrees(tree: Tree, most_bits: int) -> Iterator[_Subtree]:
    sizes = _inner_nodes(tree)
    stack: list[tuple[int, dict[int, tuple[Agreement, float]]]] = [(0, {})]
    while stack:
        node, above = stack.pop()
        if tree.left[node] == LEAF or len(above) + sizes[node] <= most_bits:
            yield _subtree(tree, node, above)
            continue
        feature = int(tree.feature[node])
        agreement, share = above.get(feature, ([], 1.0))
        for child, side, part in _children(tree, node):
            stack.append((child, {**above, feature: ([*agreement, (_test(tree, node), side)], share * part)}))


def _subtree(tree: Tree, root: int, above: Mapping[int, tuple[Agreement, float]]) -> _Subtree:
    bits = [agreement for agreement, _ in above.values()]
    needs = {feature: [(bit, True)] for bit, feature in enumerate(above)}
    stack = [(root, needs, {feature: share for feature, (_, share) in above.items()})]
    leaves: list[_Leaf] = []
    while stack:
        node, needs, shares = stack.pop()
        if tree.left[node] == LEAF:
            leaves.append(_Leaf(float(tree.value[node]), needs, shares))
            continue
        feature, bit = int(tree.feature[node]), len(bits)
        bits.append([(_test(tree, node), True)])
        for child, side, part in _children(tree, node):
            needed = {**needs, feature: [*needs.get(feature, []), (bit, side)]}
            stack.append((child, needed, {**shares, feature: shares.get(feature, 1.0) * part}))
    return _Subtree(bits, leaves)


def _children(tree: Tree, node: int) -> Iterator[tuple[int, bool, float]]:
    """Child, whether it is the left one, and its share of the node's cover; half where no training row came by."""
    for child, side in ((int(tree.left[node]), True), (int(tree.right[node]), False)):
        yield child, side, float(tree.cover[child] / tree.cover[node]) if tree.cover[node] > 0 else 0.5


def _test(tree: Tree, node: int) -> _Test:
    return _Test(int(tree.feature[node]), float(tree.threshold[node]), bool(tree.missing_left[node]))


def _inner_nodes(tree: Tree) -> npt.NDArray[np.int64]:
    """Splits in the subtree of each node."""
    sizes = np.zeros(len(tree.left), np.int64)
    order, stack = [], [0]
    while stack:
        node = stack.pop()
        order.append(node)
        if tree.left[node] != LEAF:
            stack += [int(tree.left[node]), int(tree.right[node])]
    for node in reversed(order):
        if tree.left[node] != LEAF:
            sizes[node] = 1 + sizes[tree.left[node]] + sizes[tree.right[node]]
    return sizes


def _table(subtree: _Subtree, leaf_values: Sequence[Floats]) -> _Table:
    """Adds up the leaves, each of which is looked up by the pattern of its own features."""
    count = len(subtree.bits)
    patterns = np.arange(1 << count)
    flags = [(patterns >> (count - 1 - bit)) & 1 for bit in range(count)]
    features = sorted({feature for leaf in subtree.leaves for feature in leaf.shares})
    places = {feature: place for place, feature in enumerate(features)}
    values = np.zeros((len(features), len(patterns)))
    for leaf, own in zip(subtree.leaves, leaf_values, strict=True):
        index = np.zeros_like(patterns)
        for needed in leaf.needs.values():
            agrees = np.ones_like(patterns)
            for bit, side in needed:
                agrees = agrees & (flags[bit] if side else 1 - flags[bit])
            index = index << 1 | agrees
        values[[places[feature] for feature in leaf.shares]] += own[:, index]
    return _Table(subtree.bits, features, values)


def _leaf_values(leaves: Sequence[_Leaf]) -> list[Floats]:
    """SHAP values of each leaf for each pattern of agreeing features, float64[features, 2^features] each.

    For feature j: value (o_j - s_j) * integral over t in [0, 1] of the product over the others of (o t + s (1 - t)),
    where o is 1 if the feature agrees and s is its share of the cover; since the integral of t^k (1 - t)^(d - 1 - k)
    is k! (d - 1 - k)! / d!, the weight of Shapley's formula. The first feature is the highest bit of the pattern.
    """
    found: list[Floats] = [np.zeros((0, 1))] * len(leaves)
    for count in {len(leaf.shares) for leaf in leaves} - {0}:
        chosen = [number for number, leaf in enumerate(leaves) if len(leaf.shares) == count]
        shares = np.array([list(leaves[number].shares.values()) for number in chosen])
        values = np.array([leaves[number].value for number in chosen])
        nodes, weights = np.polynomial.legendre.leggauss((count + 1) // 2)
        t = (nodes + 1) / 2
        unknown = shares[:, :, None] * (1 - t)
        factors = np.stack([unknown, unknown + t], axis=2)  # [leaves, features, disagrees or agrees, nodes]
        of_leaves = np.empty((len(chosen), count, 1 << count))
        for j in range(count):
            product = np.ones((len(chosen), 1, len(t)))
            for other in range(count):
                one = np.ones((1, 2, len(t))) if other == j else factors[:, other]
                product = (product[:, :, None, :] * one[:, None, :, :]).reshape(len(chosen), -1, len(t))
            agrees = (np.arange(1 << count) >> (count - 1 - j)) & 1
            of_leaves[:, j] = values[:, None] * (agrees - shares[:, j, None]) * (product @ (weights / 2))
        for number, one in zip(chosen, of_leaves, strict=True):
            found[number] = one
    return found
