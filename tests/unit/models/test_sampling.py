from __future__ import annotations

import numpy as np
import pytest

from evergreen.models.candidate import Sample
from evergreen.models.sampling import draw_negatives, drawn_sample

LABELS = (np.arange(10_000) % 20 == 0).astype(np.int8)


def test_all_positives_are_drawn_and_negatives_stand_for_all():
    rows, weights = draw_negatives(LABELS, 0.2, 3)
    assert (np.diff(rows) > 0).all()  # the canonical order is kept
    assert LABELS[rows].sum() == LABELS.sum()
    assert set(weights) == {np.float32(1), np.float32(5)}
    assert weights[LABELS[rows] == 0].sum() == pytest.approx((LABELS == 0).sum(), rel=0.05)


def test_a_seed_draws_the_same_and_another_one_does_not():
    first, again, other = (draw_negatives(LABELS, 0.2, seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_share_of_one_copies_nothing():
    assert draw_negatives(LABELS, 1.0, 3) == (None, None)
    sample = Sample(np.zeros((10_000, 2), np.float32), LABELS, ("a", "b"))
    matrix, labels, weights = drawn_sample(sample, 1.0, 3)
    assert matrix is sample.matrix
    assert labels is sample.labels
    assert weights is None


def test_rows_labels_and_weights_belong_together():
    sample = Sample(np.arange(10_000, dtype=np.float32)[:, None], LABELS, ("row",))
    matrix, labels, weights = drawn_sample(sample, 0.1, 3)
    assert np.array_equal(LABELS[matrix[:, 0].astype(int)], labels)
    assert np.array_equal(weights > 1, labels == 0)
