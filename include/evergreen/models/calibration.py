"""Beta calibration: a strictly increasing map from scores to probabilities, fitted on held-out customers.

Kull, Silva Filho, Flach (2017), "Beta calibration: a well-founded and easily implemented improvement on logistic
calibration for binary classifiers", section 3: logit(p) = a ln(s) - b ln(1 - s) + c with a, b >= 0. Unlike isotonic
regression it makes no ties, so that calibration never changes a ranking; a = b = 1, c = 0 is the identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
EDGE = 1e-9  # scores are kept this far from 0 and 1, whose logarithms are infinite
RIDGE = 1e-6
STEPS = 100


@dataclass(frozen=True)
class BetaCalibration:
    """The fitted map."""

    a: float
    b: float
    c: float

    @classmethod
    def fit(cls, scores: Floats, labels: npt.NDArray[Any]) -> BetaCalibration:
        """Maximum likelihood under a, b >= 0: a coefficient that would be negative is left out."""
        inputs = _inputs(scores)
        used = [0, 1]
        while True:
            weights = logistic_weights(inputs[:, used], labels)
            negative = [column for column, weight in zip(used, weights, strict=False) if weight < 0]
            if not negative:
                break
            used = [column for column in used if column not in negative[:1]]
        found = {column: float(weight) for column, weight in zip(used, weights, strict=False)}
        return cls(found.get(0, 0.0), found.get(1, 0.0), float(weights[-1]))

    def apply(self, scores: Floats) -> Floats:
        """Probabilities, float64 like `scores`."""
        inputs = _inputs(scores)
        return sigmoid(self.a * inputs[:, 0] + self.b * inputs[:, 1] + self.c)

    def to_json(self) -> dict[str, Any]:
        """The fitted map as a JSON document."""
        return {"kind": "beta", **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BetaCalibration:
        """Reads what `to_json` gave."""
        return cls(float(document["a"]), float(document["b"]), float(document["c"]))


def logistic_weights(inputs: Floats, labels: npt.NDArray[Any]) -> Floats:
    """Logistic regression of few columns by Newton's method: the columns' weights, then the intercept.

    A ridge of 1e-6 a row keeps separable data finite. Deterministic: no random start, no threads.
    """
    design = np.column_stack([inputs, np.ones(len(inputs))])
    target = np.asarray(labels, np.float64)
    weights = np.zeros(design.shape[1])
    ridge = RIDGE * len(design) * np.eye(design.shape[1])
    ridge[-1, -1] = 0.0
    rate = np.clip(target.mean(), EDGE, 1 - EDGE)
    weights[-1] = np.log(rate / (1 - rate))
    loss = _loss(design, target, weights, ridge)
    for _ in range(STEPS):
        probabilities = sigmoid(design @ weights)
        gradient = design.T @ (probabilities - target) + ridge @ weights
        spread = probabilities * (1 - probabilities)
        step = np.linalg.lstsq(design.T @ (design * spread[:, None]) + ridge, gradient, rcond=None)[0]
        scale = 1.0
        while (trial := _loss(design, target, weights - scale * step, ridge)) > loss and scale > EDGE:
            scale /= 2  # Newton overshoots far from the optimum
        weights = weights - scale * step
        if loss - trial <= 1e-12 * abs(loss):
            break
        loss = trial
    return weights


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -values))


def _loss(design: Floats, target: Floats, weights: Floats, ridge: Floats) -> float:
    margin = design @ weights
    return float(np.sum(np.logaddexp(0.0, margin) - target * margin) + weights @ ridge @ weights / 2)


def _inputs(scores: Floats) -> Floats:
    kept = np.clip(np.asarray(scores, np.float64), EDGE, 1 - EDGE)
    return np.column_stack([np.log(kept), -np.log1p(-kept)])
