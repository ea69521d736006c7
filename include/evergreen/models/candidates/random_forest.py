"""Random forest: trained by scikit-learn, kept and scored as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from evergreen.models.candidate import Sample
from evergreen.models.onnx_trees import OnnxTrees, Tree, TreesCandidate
from evergreen.models.params import Number, Ranges, Value
from evergreen.models.sampling import drawn_sample

SKLEARN_PARAMS = {
    "trees": "n_estimators", "max_leaf_nodes": "max_leaf_nodes", "min_samples_leaf": "min_samples_leaf",
    "max_features": "max_features", "sample_share": "max_samples",
}  # fmt: skip


class RandomForest(TreesCandidate):
    """Averaged trees on raw numbers (missing goes to a side of its own) and category codes.

    A node takes some 34 bytes of the file: `trees` times `2 * max_leaf_nodes` of them bound it (the defaults: 14 MB).
    """

    ranges: ClassVar[Ranges] = {
        "trees": Number(100, 1, 1_000, whole=True),
        "max_leaf_nodes": Number(2_000, 2, 20_000, whole=True),
        "min_samples_leaf": Number(20, 1, 1_000_000, whole=True),
        "max_features": Number(0.2, 0.01, 1.0),  # share of the columns that a split looks at
        "sample_share": Number(0.3, 0.01, 1.0),  # rows of a tree, drawn with replacement
        "negative_share": Number(0.06, 0.01, 1.0),
    }

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Grows the trees; the validation customers are only used to compare the graph with scikit-learn.

        Raises:
            TrainingError: the ONNX graph scores a validation row otherwise than scikit-learn.
        """
        from sklearn.ensemble import RandomForestClassifier

        sample, weights = drawn_sample(train, float(params["negative_share"]), seed)
        given = {theirs: params[ours] for ours, theirs in SKLEARN_PARAMS.items()}
        model = RandomForestClassifier(**given, random_state=seed, n_jobs=threads)
        model.fit(sample.matrix, sample.labels, sample_weight=weights)
        model.set_params(n_jobs=1)  # threads would add up the trees of `predict_proba` in any order
        trees = [_tree(estimator.tree_, len(model.estimators_)) for estimator in model.estimators_]
        graph = OnnxTrees.of(trees, sample.matrix.shape[1])
        worst = self.keep(graph, validation.matrix, model.predict_proba(validation.matrix)[:, 1])
        return {"best_iteration": len(trees), "fitted_rows": len(sample.labels), "onnx_difference": worst}


def _tree(fitted: Any, number: int) -> Tree:
    """A leaf adds its share of positives, divided by the number of trees."""
    weights = fitted.value[:, 0, :]
    return Tree(
        leaf=fitted.children_left < 0,
        feature=fitted.feature,
        threshold=fitted.threshold,
        left=fitted.children_left,
        right=fitted.children_right,
        missing_left=fitted.missing_go_to_left,
        value=weights[:, 1] / weights.sum(axis=1) / number,
    )


CANDIDATE = RandomForest
