"""Ensembles of trees as ONNX: the format without code in which scikit-learn's trees are kept, and its scorer.

The graph is made here because skl2onnx 1.20 cannot convert histogram boosting under onnx 1.23 (it hands NumPy's
integers and booleans to a protobuf that wants Python's), and drops from a random forest to which side a missing value
goes. Thresholds are float64 in scikit-learn and float32 in the graph: each is rounded down, so that `x <= threshold`
has the same answer for every float32 x. What remains is the rounding of sums, which `check_parity` limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.models.candidate import Labels, Matrix, Rows
from evergreen.models.params import Value
from evergreen.models.preprocessing import Plan
from evergreen.models.sampling import draw_negatives

FILE = "model.onnx"
TOLERANCE = 1e-5  # between a probability of scikit-learn and the graph's
EDGE = 1e-7  # scores are kept this far from 0 and 1: a forest's leaves may hold one class alone
OPSETS = {"": 21, "ai.onnx.ml": 3}
IR_VERSION = 10  # what onnxruntime has read since 1.18


@dataclass(frozen=True)
class Tree:
    """One tree: arrays with an entry a node, the root first. Children are numbers of nodes."""

    leaf: npt.NDArray[np.bool_]
    feature: npt.NDArray[Any]  # column that a branch compares
    threshold: npt.NDArray[np.float64]  # left where the value is at most this
    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    missing_left: npt.NDArray[Any]  # left where the value is NaN
    value: npt.NDArray[np.float64]  # what a leaf adds to the score


class OnnxTrees:
    """A graph and the session that runs it.

    The session has one thread: sums in one order, so that a row scores the same alone and among others.
    """

    def __init__(self, content: bytes) -> None:
        """Starts a session.

        Raises:
            ValueError: the content is no graph that onnxruntime reads.
        """
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as raised

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except (raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.InvalidProtobuf) as error:
            raise ValueError(f"no ONNX graph that onnxruntime reads: {error}") from None
        self.content = content

    @classmethod
    def of(cls, trees: Sequence[Tree], columns: int, *, base: float = 0.0, logistic: bool = False) -> Self:
        """The graph of a sum of trees.

        Args:
            trees: whose values are summed.
            columns: width of the matrix.
            base: added to the sum.
            logistic: the sum is a log-odds, its sigmoid the score; else the sum is the score.
        """
        return cls(_graph(trees, columns, base, logistic=logistic))

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores in (0, 1), float64[rows]."""
        scores = self._session.run(None, {"matrix": np.ascontiguousarray(matrix, np.float32)})[0]
        return np.asarray(np.clip(scores[:, 0].astype(np.float64), EDGE, 1 - EDGE))


class TreesCandidate:
    """What candidates have in common whose trees scikit-learn trains and ONNX keeps."""

    plan: ClassVar[Plan] = Plan(scale=False, one_hot=False)
    frameworks: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "scikit-learn")

    def __init__(self, trees: OnnxTrees | None = None) -> None:
        self._trees = trees

    @property
    def trees(self) -> OnnxTrees:
        """The graph.

        Raises:
            TrainingError: there is none yet.
        """
        if self._trees is None:
            raise TrainingError(f"{type(self).__name__} has no trees: fit or load it first")
        return self._trees

    @staticmethod
    def features(params: Mapping[str, Value], available: Sequence[str]) -> list[str]:
        """All of them."""
        return list(available)

    @staticmethod
    def rows(params: Mapping[str, Value], labels: Labels, seed: int) -> Rows | None:
        """All positives and a share of the negatives."""
        return draw_negatives(labels, float(params["negative_share"]), seed)

    def keep(self, trees: OnnxTrees, validation: Matrix, expected: npt.NDArray[np.float64]) -> float:
        """Takes a graph whose scores of the validation rows are those of scikit-learn, and gives the difference.

        Raises:
            TrainingError: they are others.
        """
        worst = check_parity(type(self).__module__.rpartition(".")[2], trees.predict(validation), expected)
        self._trees = trees
        return worst

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores in (0, 1), float64[rows]."""
        return self.trees.predict(matrix)

    def save(self, folder: Path) -> None:
        """Writes the graph."""
        (folder / FILE).write_bytes(self.trees.content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote."""
        return cls(OnnxTrees((folder / FILE).read_bytes()))


def check_parity(model: str, scores: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """The largest difference between the graph's scores and those of scikit-learn on the same rows.

    Raises:
        TrainingError: it is above `TOLERANCE`, or a score is missing. Such a graph is another model.
    """
    differences = np.abs(scores - np.clip(expected, EDGE, 1 - EDGE))
    worst = float(differences.max(initial=0.0))
    if not worst <= TOLERANCE:  # NaN is no parity either
        above = int((~(differences <= TOLERANCE)).sum())
        raise TrainingError(
            f"model {model}: its ONNX graph differs from scikit-learn by {worst:.3g} ({above} of {len(scores)} "
            f"validation rows are above the tolerance of {TOLERANCE:g}) and is not saved: train another candidate, and "
            "report the versions of scikit-learn and onnxruntime"
        )
    return worst


def _graph(trees: Sequence[Tree], columns: int, base: float, *, logistic: bool) -> bytes:
    from onnx import TensorProto, helper

    sizes = [len(tree.leaf) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    leaf = np.concatenate([tree.leaf for tree in trees])

    def of_branches(name: str) -> npt.NDArray[Any]:
        return np.where(leaf, 0, np.concatenate([getattr(tree, name) for tree in trees]))

    values = np.concatenate([tree.value for tree in trees])
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["matrix"],
        ["margin" if logistic else "score"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[float(base)],
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_featureids=of_branches("feature").tolist(),
        nodes_values=_rounded_down(of_branches("threshold")).tolist(),
        nodes_truenodeids=of_branches("left").tolist(),
        nodes_falsenodeids=of_branches("right").tolist(),
        nodes_missing_value_tracks_true=of_branches("missing_left").tolist(),
        target_treeids=tree_ids[leaf].tolist(),
        target_nodeids=node_ids[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=values[leaf].tolist(),
    )
    nodes = [node, helper.make_node("Sigmoid", ["margin"], ["score"])] if logistic else [node]
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="evergreen")
    return bytes(model.SerializeToString(deterministic=True))


def _rounded_down(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above each threshold."""
    nearest = thresholds.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > thresholds, below, nearest)
