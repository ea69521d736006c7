"""The dates of a day of data."""

from __future__ import annotations

from datetime import date

from evergreen.features.grid import grid
from evergreen.settings.training import TrainingSettings


def test_dates_of_the_readme_example() -> None:
    found = grid(date(2011, 8, 31), TrainingSettings())
    assert found.as_of == date(2011, 9, 1)
    assert found.holdout == date(2011, 8, 4)
    assert found.training[:2] == (date(2011, 7, 7), date(2011, 6, 30))
    assert len(found.training) == 8
    assert found.dates == sorted({found.as_of, found.holdout, *found.training})


def test_no_label_window_of_training_reaches_the_holdout() -> None:
    training = TrainingSettings(horizon_days=10, step_days=3, steps=4)
    found = grid(date(2024, 3, 1), training)
    assert (found.holdout - max(found.training)).days == training.horizon_days
    assert (found.as_of - found.holdout).days == training.horizon_days
