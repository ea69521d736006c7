"""The dates of a day of data."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from evergreen.features.grid import grid
from evergreen.settings.training import TrainingSettings


def test_dates_of_the_readme_example() -> None:
    found = grid(date(2011, 8, 31), TrainingSettings())
    assert found.as_of == date(2011, 9, 1)
    assert found.holdout == date(2011, 8, 4)
    assert found.training[:3] == (date(2011, 7, 7), date(2011, 6, 26), date(2011, 6, 12))
    assert len(found.training) == 26
    assert found.dates == sorted({found.as_of, found.holdout, *found.training})


def test_no_label_window_of_training_reaches_the_holdout() -> None:
    training = TrainingSettings(horizon_days=10, step_days=3, steps=4)
    found = grid(date(2024, 3, 1), training)
    assert (found.holdout - max(found.training)).days == training.horizon_days
    assert (found.as_of - found.holdout).days == training.horizon_days


@given(st.dates(date(2000, 1, 1), date(2040, 1, 1)), st.integers(1, 30), st.integers(1, 20))
def test_tomorrow_asks_for_one_new_training_date_at_most_or_one_that_was_the_newest_before(
    day: date, step: int, steps: int
) -> None:
    training = TrainingSettings(step_days=step, steps=steps, min_steps=1)
    before = {newest for back in range(step) for newest in grid(day - timedelta(days=back), training).training}
    tomorrow = grid(day + timedelta(days=1), training).training
    assert set(tomorrow) - before <= {tomorrow[0]}


@given(st.dates(date(2000, 1, 1), date(2040, 1, 1)), st.integers(2, 30))
def test_training_dates_are_half_a_step_apart_or_more_and_a_step_from_the_second_on(day: date, step: int) -> None:
    found = grid(day, TrainingSettings(step_days=step, steps=5)).training
    gaps = [(later - earlier).days for later, earlier in pairwise(found)]
    assert step / 2 <= gaps[0] <= 1.5 * step
    assert set(gaps[1:]) == {step}
