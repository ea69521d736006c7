"""What each column of a row adds to a candidate's margin: the optional second face of a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from evergreen.models.calibration import EDGE, sigmoid
from evergreen.models.candidate import Matrix

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """Additive contributions in log-odds, before calibration.

    `values` is float64[rows, columns + 1]: a row's sum is its margin, the last column the margin where nothing is
    known. `scores` is float64[rows]: the candidate's scores as the contributions rebuild them. For one model that is
    the logistic function of the margin; a candidate that averages the scores of several models averages those of each,
    while `values` is the mean over the models, so that it explains the mean log-odds.
    """

    values: Floats
    scores: Floats
    method: str

    @staticmethod
    def of_models(values: Sequence[Floats], method: str) -> Contributions:
        """Of a candidate that averages the scores of several models: the contributions of each, see `Contributions`."""
        mean = np.zeros_like(values[0])
        scores = np.zeros(len(values[0]))
        for one in values:
            mean += one / len(values)
            scores += sigmoid(one.sum(axis=1)) / len(values)
        return Contributions(mean, scores, method)

    @property
    def margins(self) -> Floats:
        """Sum of each row's contributions, float64[rows]."""
        return np.asarray(self.values.sum(axis=1))


@runtime_checkable
class Contributing(Protocol):
    """A candidate that knows what each column adds. Others are explained from outside, by asking for predictions."""

    def contributions(self, matrix: Matrix, background: Matrix) -> Contributions:
        """Contributions of the columns of each row.

        Args:
            matrix: preprocessed rows, float32[rows, columns].
            background: preprocessed rows that stand for "nothing is known"; a method that needs none ignores them.
        """


def log_odds(scores: Floats) -> Floats:
    """Logarithm of the odds, finite also at 0 and 1."""
    kept = np.clip(scores, EDGE, 1 - EDGE)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def linear_contributions(matrix: Matrix, background: Matrix, weights: Floats, intercept: float) -> Contributions:
    """Of a logistic regression: weight x (value - mean of the background); exact for independent columns.

    Source: Strumbelj & Kononenko 2014, "Explaining prediction models and individual predictions with feature
    contributions".
    """
    means = background.mean(axis=0, dtype=np.float64)
    values = np.column_stack([(matrix - means) * weights, np.full(len(matrix), intercept + means @ weights)])
    return Contributions.of_models([values], "linear SHAP, exact")
