from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.errors import TrainingError
from evergreen.training.search.folds import Fold, FoldCustomers, rolling_folds

FIRST = date(2011, 1, 6)
DATES = st.sets(st.integers(0, 200), min_size=1, max_size=20).map(
    lambda days: [FIRST + timedelta(days=day) for day in days]
)
CUSTOMERS = np.array([f"c{number}" for number in range(500)], object)


def reaches(fold: Fold, horizon_days: int) -> bool:
    """Does a training label's window reach into the judged date?"""
    return any(one + timedelta(days=horizon_days) > fold.validation for one in fold.train)


@given(DATES, st.integers(1, 60), st.integers(1, 12))
def test_no_label_window_reaches_into_the_judged_date(as_ofs, horizon_days, wanted):
    try:
        folds = rolling_folds(as_ofs, horizon_days, wanted)
    except TrainingError:
        assert (max(as_ofs) - min(as_ofs)).days < horizon_days  # no pair of dates lies far enough apart
        return
    assert 1 <= len(folds) <= wanted
    assert not any(reaches(fold, horizon_days) for fold in folds)
    assert [fold.number for fold in folds] == list(range(len(folds)))
    assert [fold.validation for fold in folds] == sorted({fold.validation for fold in folds})
    assert folds[-1].validation == max(as_ofs)
    for fold in folds:  # nothing that could be learnt from is left out
        assert set(fold.train) == {one for one in as_ofs if one + timedelta(days=horizon_days) <= fold.validation}


def test_a_fold_without_embargo_is_noticed():
    """Control: the property above is not true of any fold."""
    assert reaches(Fold(0, (FIRST, FIRST + timedelta(days=7)), FIRST + timedelta(days=28)), 28)


def test_weekly_dates_of_two_months():
    as_ofs = [FIRST + timedelta(days=7 * week) for week in range(8)]
    folds = rolling_folds(as_ofs, 28, 3)
    assert [(len(fold.train), (fold.validation - fold.train[-1]).days) for fold in folds] == [(2, 28), (3, 28), (4, 28)]


def test_a_fold_has_a_date_of_the_customers_that_stop_it():
    as_ofs = [FIRST + timedelta(days=7 * week) for week in range(12)]
    folds = rolling_folds(as_ofs, 28, 12, as_ofs[-6:])
    assert [fold.validation for fold in folds] == as_ofs[-2:]
    assert [fold.train for fold in folds] == [tuple(as_ofs[:7]), tuple(as_ofs[:8])]  # earlier ones are learnt from
    with pytest.raises(TrainingError, match=r"span 21 days, .* inner_steps"):
        rolling_folds(as_ofs, 28, 12, as_ofs[-4:])


def test_dates_too_near_each_other_are_refused():
    with pytest.raises(TrainingError, match=r"span 21 days, a fold of the search needs 28 .* settings.training.steps"):
        rolling_folds([FIRST + timedelta(days=7 * week) for week in range(4)], 28, 3)


@settings(max_examples=20)
@given(st.text(max_size=8), st.integers(1, 5), st.floats(0.05, 0.2))
def test_each_fold_judges_other_customers(salt, folds, share):
    customers = FoldCustomers(salt, share, 1.0)
    judged = np.array([customers.judged(CUSTOMERS, Fold(number, (FIRST,), FIRST)) for number in range(folds)])
    assert judged.sum(axis=0).max() <= 1
    assert np.allclose(judged.mean(axis=1), share, atol=0.08)


def test_a_share_of_the_customers_is_part_of_a_larger_one():
    small, large = FoldCustomers("s", 0.2, 0.3).read(CUSTOMERS), FoldCustomers("s", 0.2, 0.6).read(CUSTOMERS)
    assert 0.2 < small.mean() < 0.4
    assert not (small & ~large).any()
    assert FoldCustomers("s", 0.2, 1.0).read(CUSTOMERS).all()
