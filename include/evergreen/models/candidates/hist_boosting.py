"""Histogram gradient boosting: trained by scikit-learn, kept and scored as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evergreen.models.candidate import Sample
from evergreen.models.onnx_trees import OnnxTrees, Tree, TreesCandidate
from evergreen.models.params import Number, Ranges, Value
from evergreen.models.sampling import drawn_sample

SKLEARN_PARAMS = (
    "learning_rate", "max_leaf_nodes", "min_samples_leaf", "l2_regularization", "max_features", "max_bins",
)  # fmt: skip


class HistBoosting(TreesCandidate):
    """Leaf-wise trees on raw numbers (missing goes to a side of its own) and category codes."""

    ranges: ClassVar[Ranges] = {
        "rounds": Number(400, 1, 10_000, whole=True),
        "early_stopping_rounds": Number(25, 1, 1_000, whole=True),
        "learning_rate": Number(0.06, 0.001, 1.0),
        "max_leaf_nodes": Number(31, 2, 4_096, whole=True),
        "min_samples_leaf": Number(200, 1, 1_000_000, whole=True),
        "l2_regularization": Number(20.0, 0.0, 10_000.0),
        "max_features": Number(0.3, 0.01, 1.0),  # share of the columns that a split looks at
        "max_bins": Number(63, 8, 255, whole=True),
        "negative_share": Number(0.06, 0.01, 1.0),
    }

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Boosts until the log loss of the validation customers stops falling, and keeps the best round.

        Raises:
            TrainingError: the ONNX graph scores a validation row otherwise than scikit-learn.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        sample, weights = drawn_sample(train, float(params["negative_share"]), seed)
        model = HistGradientBoostingClassifier(
            max_iter=int(params["rounds"]),
            early_stopping=True,
            n_iter_no_change=int(params["early_stopping_rounds"]),
            tol=0.0,
            **{name: params[name] for name in SKLEARN_PARAMS},
            random_state=seed,
        )
        with threadpool_limits(threads):
            model.fit(
                sample.matrix, sample.labels, sample_weight=weights, X_val=validation.matrix, y_val=validation.labels
            )
            best = max(1, int(np.argmax(model.validation_score_)))  # the first score is that of no tree
            del model._predictors[best:]
            expected = model.predict_proba(validation.matrix)[:, 1]
        trees = [_tree(predictor.nodes) for (predictor,) in model._predictors]
        base = float(model._baseline_prediction.item())
        graph = OnnxTrees.of(trees, sample.matrix.shape[1], base=base, logistic=True)
        worst = self.keep(graph, validation.matrix, expected)
        return {"best_iteration": best, "fitted_rows": len(sample.labels), "onnx_difference": worst}


def _tree(nodes: npt.NDArray[Any]) -> Tree:
    return Tree(
        leaf=nodes["is_leaf"].astype(bool),
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        left=nodes["left"],
        right=nodes["right"],
        missing_left=nodes["missing_go_to_left"],
        value=nodes["value"],
    )


CANDIDATE = HistBoosting
