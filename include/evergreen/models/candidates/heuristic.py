"""One feature ranks the pairs; a logistic map of its logarithm makes the rank a probability."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.models.calibration import logistic_weights, sigmoid
from evergreen.models.candidate import Labels, Matrix, Rows, Sample
from evergreen.models.contributions import Contributions, linear_contributions
from evergreen.models.params import Ranges, Text, Value
from evergreen.models.preprocessing import Plan

FILE = "heuristic.json"


class Heuristic:
    """The baselines that a model must beat: frequency, recency, popularity.

    The direction is learned: `pair_recency_days` gets a negative slope.
    """

    ranges: ClassVar[Ranges] = {"feature": Text("pair_purchases")}
    plan: ClassVar[Plan] = Plan(scale=False, one_hot=False)
    frameworks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, slope: float = 0.0, intercept: float = 0.0, missing: float = 0.0) -> None:
        self.slope = slope
        self.intercept = intercept
        self.missing = missing

    @staticmethod
    def features(params: Mapping[str, Value], available: Sequence[str]) -> list[str]:
        """The one feature.

        Raises:
            TrainingError: the training set has no such feature.
        """
        feature = str(params["feature"])
        if feature not in available:
            raise TrainingError(f"parameter feature of model heuristic is {feature!r}, which the training set lacks")
        return [feature]

    @staticmethod
    def rows(params: Mapping[str, Value], labels: Labels, seed: int) -> Rows | None:
        """All of them."""
        return None

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Fits the map on the training rows."""
        values = train.matrix[:, 0].astype(np.float64)
        present = values[~np.isnan(values)]
        self.missing = float(np.median(present)) if len(present) else 0.0
        slope, intercept = logistic_weights(self._inputs(train.matrix), train.labels)
        self.slope, self.intercept = float(slope), float(intercept)
        return {}

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores in (0, 1), float64[rows]."""
        return sigmoid(self.slope * self._inputs(matrix)[:, 0] + self.intercept)

    def contributions(self, matrix: Matrix, background: Matrix) -> Contributions:
        """What the feature's logarithm adds against the background's mean."""
        inputs, reference = (self._inputs(rows).astype(np.float32) for rows in (matrix, background))
        return linear_contributions(inputs, reference, np.array([self.slope]), self.intercept)

    def save(self, folder: Path) -> None:
        """Writes the map as JSON."""
        state = {"slope": self.slope, "intercept": self.intercept, "missing": self.missing}
        (folder / FILE).write_text(json.dumps(state, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> Heuristic:
        """Reads what `save` wrote."""
        return cls(**json.loads((folder / FILE).read_text()))

    def _inputs(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        values = matrix[:, :1].astype(np.float64)
        values = np.where(np.isnan(values), self.missing, values)
        return np.sign(values) * np.log1p(np.abs(values))


CANDIDATE = Heuristic
