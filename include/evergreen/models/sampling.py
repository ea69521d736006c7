"""Which training rows a tree model reads: a share of the negatives, weighted so that probabilities keep their level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evergreen.models.candidate import Labels, Matrix, Rows, Sample

SEED_STEP = 10_007  # so that bags of neighbouring seeds share no draw


def draw_negatives(labels: Labels, share: float, seed: int) -> tuple[Rows | None, npt.NDArray[np.float32] | None]:
    """All positives and a random share of the negatives, each of those weighted by the share's inverse.

    The weighted sample has the expected loss of the whole.

    Args:
        labels: 0 or 1, one a row.
        share: of the negatives, in (0, 1].
        seed: of the draw.

    Returns:
        Rows, ascending, and their weights; None and None for all rows, where the share is 1.
    """
    if share >= 1:
        return None, None
    drawn = np.random.default_rng(seed).random(len(labels)) < share
    rows = np.flatnonzero(drawn | (labels == 1))
    return rows, np.where(labels[rows] == 1, 1.0, 1.0 / share).astype(np.float32)


def drawn_sample(train: Sample, share: float, seed: int) -> tuple[Matrix, Labels, npt.NDArray[np.float32] | None]:
    """Matrix, labels and weights of the rows that `draw_negatives` chose."""
    rows, weights = draw_negatives(train.labels, share, seed)
    if rows is None:
        return train.matrix, train.labels, None
    return train.matrix[rows], train.labels[rows], weights
