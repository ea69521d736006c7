from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.models.candidate import Drawn, Sample
from evergreen.models.sampling import bag_seed, draw_negatives, drawn_sample, rows_of_bags

LABELS = (np.arange(10_000) % 20 == 0).astype(np.int8)
WHOLE = Sample(np.arange(10_000, dtype=np.float32)[:, None], LABELS, ("row",))  # each row holds its own number


def test_all_positives_are_drawn_and_negatives_stand_for_all():
    rows = draw_negatives(LABELS, 0.2, 3)
    assert (np.diff(rows) > 0).all()  # the canonical order is kept
    assert LABELS[rows].sum() == LABELS.sum()
    sample, weights = drawn_sample(WHOLE, 0.2, 3)
    assert set(weights) == {np.float32(1), np.float32(5)}
    assert weights[sample.labels == 0].sum() == pytest.approx((LABELS == 0).sum(), rel=0.05)


def test_a_seed_draws_the_same_and_another_one_does_not():
    first, again, other = (draw_negatives(LABELS, 0.2, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_share_of_one_copies_nothing():
    assert draw_negatives(LABELS, 1.0, 3) is None
    assert rows_of_bags(LABELS, 1.0, 3, 3) is None
    assert drawn_sample(WHOLE, 1.0, 3) == (WHOLE, None)


def test_rows_labels_and_weights_belong_together():
    sample, weights = drawn_sample(WHOLE, 0.1, 3)
    assert np.array_equal(LABELS[sample.matrix[:, 0].astype(int)], sample.labels)
    assert np.array_equal(weights > 1, sample.labels == 0)


@given(share=st.floats(0.01, 0.99), bags=st.integers(1, 4), seed=st.integers(0, 99))
def test_each_bag_draws_from_the_rows_of_all_bags_what_it_would_draw_from_the_whole(share, bags, seed):
    rows = rows_of_bags(LABELS, share, bags, seed)
    held = Sample(WHOLE.matrix[rows], LABELS[rows], ("row",), Drawn(rows, LABELS))
    for bag in range(bags):
        from_all, weights = drawn_sample(WHOLE, share, bag_seed(seed, bag))
        from_held, same_weights = drawn_sample(held, share, bag_seed(seed, bag))
        assert np.array_equal(from_all.matrix, from_held.matrix)
        assert np.array_equal(weights, same_weights)


def test_rows_that_were_not_drawn_are_not_given():
    rows = draw_negatives(LABELS, 0.1, 3)
    held = Sample(WHOLE.matrix[rows], LABELS[rows], ("row",), Drawn(rows, LABELS))
    with pytest.raises(ValueError, match="were not drawn"):
        drawn_sample(held, 0.1, 4)
