"""What each feature adds to each row's log-odds: exactly where the candidate can tell, else by sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evergreen.models.bundle import Bundle
from evergreen.models.calibration import sigmoid
from evergreen.models.candidate import Candidate, Matrix
from evergreen.models.contributions import Contributing, Contributions, log_odds
from evergreen.settings.explanations import ExplanationSettings

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
SAMPLED = "Shapley values, sampled"
WALKED_AT_ONCE = 32  # rows: their walks of so many features hold some megabytes


@dataclass(frozen=True)
class Attribution:
    """Contributions of the features of some rows, in log-odds before calibration.

    `values` is float64[rows, features], `base` float64[rows] the log-odds where nothing is known, `rebuilt` the scores
    that the contributions give, `scores` what the candidate's `predict` gives; both before calibration, float64[rows].
    """

    frame: pd.DataFrame
    features: tuple[str, ...]
    values: Floats
    base: Floats
    rebuilt: Floats
    scores: Floats
    method: str

    @property
    def mean_abs(self) -> Floats:
        """Mean absolute contribution of each feature, float64[features]."""
        return np.asarray(np.abs(self.values).mean(axis=0))


def attribute(bundle: Bundle, frame: pd.DataFrame, settings: ExplanationSettings) -> Attribution:
    """Explains at most `settings.rows` rows of a frame (`settings.sampled_rows` where that takes sampling).

    Args:
        bundle: the model.
        frame: features by name, one row a pair; the rows that are drawn stand in the result, in their order.
        settings: numbers of rows, seed.

    Raises:
        BundleError: the frame lacks a feature that the model needs.
    """
    exact = isinstance(bundle.candidate, Contributing)
    chosen = frame.iloc[drawn(len(frame), settings.rows if exact else settings.sampled_rows, settings.seed)]
    background = frame.iloc[drawn(len(frame), settings.background_rows, settings.seed + 1)]
    return attribute_rows(bundle, chosen, background, settings.seed)


def attribute_rows(bundle: Bundle, frame: pd.DataFrame, background: pd.DataFrame, seed: int) -> Attribution:
    """Explains every row of a frame.

    Args:
        bundle: the model.
        frame: features by name, one row a pair.
        background: rows that stand for "nothing is known".
        seed: of the sampling, where the candidate has no contributions of its own.
    """
    scores = bundle.scores(frame)  # refuses a frame without a feature
    matrix = bundle.preprocessor.transform(frame, len(frame))
    reference = bundle.preprocessor.transform(background, len(background))
    origins = bundle.preprocessor.origins
    if isinstance(bundle.candidate, Contributing):
        found = bundle.candidate.contributions(matrix, reference)
        values = _by_feature(found.values[:, :-1], origins)
    else:
        found = sampled_contributions(bundle.candidate, matrix, reference, origins, seed)
        values = found.values[:, :-1]
    return Attribution(frame, bundle.features, values, found.values[:, -1], found.scores, scores, found.method)


def sampled_contributions(
    candidate: Candidate, matrix: Matrix, background: Matrix, origins: npt.NDArray[np.intp], seed: int
) -> Contributions:
    """Shapley values of any candidate's log-odds, by walks from a background row to the row, feature by feature.

    Each row takes one walk in a random order of the features and one in the reverse order, which cancels much of the
    first one's error (Strumbelj & Kononenko 2014, algorithm 1; Mitchell et al. 2022, "Sampling permutations for
    Shapley value estimation"). A walk's steps add up to the row's log-odds whatever the order.

    Args:
        candidate: gives the scores.
        matrix: preprocessed rows, float32[rows, columns].
        background: preprocessed rows to start from.
        origins: feature that each column was made from.
        seed: of orders and background rows.

    Returns:
        Contributions of features, float64[rows, features + 1].
    """
    draw = np.random.default_rng(seed)
    count = int(origins.max()) + 1
    values = np.zeros((len(matrix), count + 1))
    for first in range(0, len(matrix), WALKED_AT_ONCE):
        targets = matrix[first : first + WALKED_AT_ONCE]
        orders = np.argsort(draw.random((len(targets), count)), axis=1)
        starts = background[draw.integers(len(background), size=len(targets))]
        for steps in (orders, orders[:, ::-1]):
            when = np.argsort(steps, axis=1)[:, origins]  # place of each column's feature in its row's walk
            known = when[:, None, :] < np.arange(count + 1)[None, :, None]
            walk = np.where(known, targets[:, None, :], starts[:, None, :])
            margins = log_odds(candidate.predict(walk.reshape(-1, matrix.shape[1]))).reshape(len(targets), count + 1)
            rows = np.arange(first, first + len(targets))
            values[rows[:, None], steps] += np.diff(margins, axis=1) / 2
            values[rows, -1] += margins[:, 0] / 2
    return Contributions(values, np.asarray(sigmoid(values.sum(axis=1))), SAMPLED)


def drawn(rows: int, most: int, seed: int) -> npt.NDArray[np.intp]:
    """At most so many row numbers, ascending: the same ones for the same seed."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _by_feature(values: Floats, origins: npt.NDArray[np.intp]) -> Floats:
    """Sums the columns that one feature was made into."""
    starts = np.flatnonzero(np.diff(origins, prepend=-1))
    return np.asarray(np.add.reduceat(values, starts, axis=1))
