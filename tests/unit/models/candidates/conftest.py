"""Preprocessed rows as trees read them: counts, days with gaps, and category codes with -1 for unknown."""

from __future__ import annotations

import numpy as np
import pytest

from evergreen.models.candidate import Sample

NAMES = ("pair_purchases", "pair_recency_days", "customer_orders_90d", "country")


def made(rows: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    matrix = np.column_stack(
        [rng.integers(1, 20, rows), rng.integers(0, 365, rows), rng.normal(5, 2, rows), rng.integers(-1, 3, rows)]
    ).astype(np.float32)
    margin = 0.2 * matrix[:, 0] - 0.01 * matrix[:, 1] + (matrix[:, 3] == 2) - 1.5
    matrix[rng.random(matrix.shape) < [0, 0.1, 0.1, 0]] = np.nan
    labels = (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.int8)
    return Sample(matrix, labels, NAMES)


@pytest.fixture(scope="module")
def train() -> Sample:
    return made(2_000, 1)


@pytest.fixture(scope="module")
def validation() -> Sample:
    return made(1_000, 2)
