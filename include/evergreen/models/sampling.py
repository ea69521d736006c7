"""Which training rows a tree model reads: a share of the negatives, weighted so that probabilities keep their level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evergreen.models.candidate import Labels, Rows, Sample

SEED_STEP = 10_007  # so that bags of neighbouring seeds share no draw


def draw_negatives(labels: Labels, share: float, seed: int) -> Rows | None:
    """All positives and a random share of the negatives.

    Args:
        labels: 0 or 1, one a row.
        share: of the negatives, in (0, 1].
        seed: of the draw.

    Returns:
        Rows, ascending; None for all rows, where the share is 1.
    """
    if share >= 1:
        return None
    drawn = np.random.default_rng(seed).random(len(labels)) < share
    return np.flatnonzero(drawn | (labels == 1))


def rows_of_bags(labels: Labels, share: float, bags: int, seed: int) -> Rows | None:
    """The rows that at least one bag draws, ascending; None for all. A bag draws with the seed of `bag_seed`."""
    if share >= 1:
        return None
    taken = np.zeros(len(labels), bool)
    for bag in range(bags):
        taken[draw_negatives(labels, share, bag_seed(seed, bag))] = True
    return np.flatnonzero(taken)


def bag_seed(seed: int, bag: int) -> int:
    """Seed of everything random in a bag."""
    return seed + SEED_STEP * bag


def drawn_sample(train: Sample, share: float, seed: int) -> tuple[Sample, npt.NDArray[np.float32] | None]:
    """The sample that `draw_negatives` takes from the set that `train` holds rows of, and the rows' weights.

    A negative weighs the share's inverse, so that the weighted sample has the expected loss of the whole. The draw
    depends on the labels of the set alone: it is the same whether `train` holds all of its rows or those of all bags.
    """
    rows = draw_negatives(train.all_labels, share, seed)
    if rows is None:
        return train, None
    sample = train.of(rows)
    return sample, np.where(sample.labels == 1, 1.0, 1.0 / share).astype(np.float32)
