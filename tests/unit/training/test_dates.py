from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evergreen.errors import TrainingError
from evergreen.settings.training import TrainingSettings
from evergreen.training.dates import training_dates


def test_the_dates_of_a_known_day():
    dates = training_dates(date(2011, 8, 31), TrainingSettings(), first_day=date(2009, 12, 1))
    assert dates.holdout == date(2011, 8, 4)
    assert dates.as_ofs[-1] == date(2011, 7, 7)
    assert dates.as_ofs[0] == date(2010, 7, 25)  # the season of the holdout, a year before
    assert len(dates.as_ofs) == 26
    assert not dates.short


@given(st.dates(date(2000, 1, 1), date(2040, 1, 1)), st.integers(1, 90), st.integers(1, 30), st.integers(1, 20))
def test_no_label_window_of_training_meets_the_holdout_or_the_future(day, horizon, step, steps):
    training = TrainingSettings(horizon_days=horizon, step_days=step, steps=steps, min_steps=1)
    dates = training_dates(day, training)
    window = timedelta(days=horizon)
    assert dates.holdout + window - timedelta(days=1) == day  # mature, and the newest that is
    assert all(as_of + window <= dates.holdout for as_of in dates.as_ofs)
    assert dates.as_ofs == tuple(sorted(set(dates.as_ofs)))


@given(st.integers(60, 400))
def test_a_short_history_takes_fewer_steps_or_says_how_many_days_it_needs(days):
    training = TrainingSettings(step_days=7, steps=8, min_steps=2)
    first = date(2024, 1, 1)
    day = first + timedelta(days=days - 1)
    earliest = first + timedelta(days=90)
    possible = [as_of for as_of in training_dates(day, training).as_ofs if as_of >= earliest]
    if len(possible) >= 2:
        dates = training_dates(day, training, first_day=first)
        assert list(dates.as_ofs) == possible
        assert dates.short == (len(possible) < 8)
    else:
        with pytest.raises(TrainingError, match=rf"are {days} days, training needs (\d+):") as refused:
            training_dates(day, training, first_day=first)
        needed = int(str(refused.value).split("training needs ")[1].split(":")[0])
        assert len(training_dates(day, training, first_day=day - timedelta(days=needed - 1)).as_ofs) == 2
        with pytest.raises(TrainingError):
            training_dates(day, training, first_day=day - timedelta(days=needed - 2))


@pytest.mark.parametrize(
    "changes",
    [{"min_steps": 27}, {"early_stopping_share": 0.4, "selection_share": 0.4}, {"candidates": {}}],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValidationError):
        TrainingSettings(**changes)
