"""Logistic regression: trained by scikit-learn, kept as coefficients, predicted with NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evergreen.models.calibration import sigmoid
from evergreen.models.candidate import Labels, Matrix, Rows, Sample
from evergreen.models.contributions import Contributions, linear_contributions
from evergreen.models.params import Number, Ranges, Value
from evergreen.models.preprocessing import Plan

FILE = "logistic.json"


class Logistic:
    """A linear model on capped, imputed and scaled numbers and one-hot categories."""

    ranges: ClassVar[Ranges] = {
        "c": Number(0.1, 1e-6, 1e4),  # inverse strength of the L2 penalty
        "max_iterations": Number(200, 10, 10_000, whole=True),
        "max_rows": Number(200_000, 1_000, 100_000_000, whole=True),
    }
    plan: ClassVar[Plan] = Plan(scale=True, one_hot=True)
    frameworks: ClassVar[tuple[str, ...]] = ("scikit-learn",)

    def __init__(self, weights: npt.NDArray[np.float64] | None = None, intercept: float = 0.0) -> None:
        self.weights = np.zeros(0) if weights is None else weights
        self.intercept = intercept

    @staticmethod
    def features(params: Mapping[str, Value], available: Sequence[str]) -> list[str]:
        """All of them."""
        return list(available)

    @staticmethod
    def rows(params: Mapping[str, Value], labels: Labels, seed: int) -> Rows | None:
        """At most `max_rows`, drawn at random: so few weights learn little more from millions."""
        if len(labels) <= int(params["max_rows"]):
            return None
        return np.sort(np.random.default_rng(seed).choice(len(labels), int(params["max_rows"]), replace=False))

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Fits on the rows that it is given."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        model = LogisticRegression(C=float(params["c"]), max_iter=int(params["max_iterations"]), tol=1e-4)
        with threadpool_limits(1):  # sums of threads come in any order: other bits
            model.fit(train.matrix.astype(np.float64), train.labels)
        self.weights = model.coef_[0].astype(np.float64)
        self.intercept = float(model.intercept_[0])
        return {"best_iteration": int(model.n_iter_[0]), "fitted_rows": len(train.labels)}

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores in (0, 1), float64[rows]."""
        return sigmoid(matrix.astype(np.float64) @ self.weights + self.intercept)

    def contributions(self, matrix: Matrix, background: Matrix) -> Contributions:
        """What each column adds against the background's mean."""
        return linear_contributions(matrix, background, self.weights, self.intercept)

    def save(self, folder: Path) -> None:
        """Writes the coefficients as JSON, in the order of the preprocessed columns."""
        state = {"weights": self.weights.tolist(), "intercept": self.intercept}
        (folder / FILE).write_text(json.dumps(state, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> Logistic:
        """Reads what `save` wrote."""
        state = json.loads((folder / FILE).read_text())
        return cls(np.asarray(state["weights"], np.float64), float(state["intercept"]))


CANDIDATE = Logistic
