"""LIME: what a model does around one row, as a small linear model that any model can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evergreen.models.contributions import log_odds

if TYPE_CHECKING:
    from evergreen.evaluation.explanations.effects import Predict

RIDGE = 1.0
KERNEL_WIDTH = 0.75  # times the root of the number of features, as in the authors' code


@dataclass(frozen=True)
class Surrogate:
    """A linear model of the log-odds around a row: what each feature's own value adds, and how well it fits.

    `fit` is the weighted share of the neighbours' variance that it explains: near 0 the model is not linear there, and
    the weights say little.
    """

    weights: dict[str, float]
    intercept: float
    fit: float


def lime(
    predict: Predict, row: pd.DataFrame, background: pd.DataFrame, *, samples: int = 2_000, seed: int = 0
) -> Surrogate:
    """Fits a weighted ridge regression on rows around one row.

    A neighbour keeps some of the row's values and takes the others from a random background row; the regression reads
    which were kept. Neighbours that keep more weigh more, by an exponential kernel of the distance (Ribeiro, Singh &
    Guestrin 2016, "Why should I trust you?", section 3.3 and algorithm 1).

    Args:
        predict: features in, probabilities out, such as `Bundle.predict`.
        row: one row with the features.
        background: rows to take other values from.
        samples: neighbours, the row itself among them.
        seed: of the neighbours.

    Returns:
        Weights by feature, largest first, in log-odds.
    """
    features = list(row.columns)
    draw = np.random.default_rng(seed)
    kept = draw.random((samples, len(features))) < draw.random((samples, 1))
    kept[0] = True
    others = background.iloc[draw.integers(len(background), size=samples)]
    neighbours = pd.DataFrame(
        {
            name: np.where(kept[:, place], row[name].to_numpy()[0], others[name].to_numpy())
            for place, name in enumerate(features)
        }
    )
    margins = log_odds(predict(neighbours))
    distance = np.sqrt((~kept).sum(axis=1))
    nearness = np.exp(-((distance / (KERNEL_WIDTH * np.sqrt(len(features)))) ** 2))
    design = np.column_stack([kept, np.ones(samples)]).astype(np.float64)
    penalty = RIDGE * np.eye(design.shape[1])
    penalty[-1, -1] = 0.0
    weighted = design * nearness[:, None]
    weights = np.linalg.solve(design.T @ weighted + penalty, weighted.T @ margins)
    rest = margins - design @ weights
    centred = margins - np.average(margins, weights=nearness)
    spread = float(np.sum(nearness * centred**2))
    fit = 1 - float(np.sum(nearness * rest**2)) / spread if spread > 0 else 1.0
    order = np.argsort(-np.abs(weights[:-1]), kind="stable")
    return Surrogate({features[place]: float(weights[place]) for place in order}, float(weights[-1]), fit)
