"""The `as_of`s of training and holdout: mature labels only, and an embargo of one horizon between the two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from evergreen.errors import TrainingError
from evergreen.features.grid import grid
from evergreen.settings.training import TrainingSettings


@dataclass(frozen=True)
class TrainingDates:
    """The dates of one training set. `as_ofs` are in ascending order."""

    holdout: date
    as_ofs: tuple[date, ...]
    wanted_steps: int

    @property
    def short(self) -> bool:
        """True where history was too short for all the steps that settings ask for."""
        return len(self.as_ofs) < self.wanted_steps


def training_dates(day: date, training: TrainingSettings, *, first_day: date | None = None) -> TrainingDates:
    """Dates for the data up to and including `day`.

    The holdout is the newest `as_of` whose label window ends on `day`; the newest training `as_of` lies one horizon
    before it, so that no training label overlaps the holdout's window.

    Args:
        day: newest day of data.
        training: horizon, step, number of steps.
        first_day: first day of data; `as_of`s with less than `min_history_days` behind them are left out.

    Raises:
        TrainingError: fewer than `min_steps` remain; says how many days of data are needed.
    """
    dates = grid(day, training)
    as_ofs = list(dates.training)
    if first_day is not None:
        earliest = first_day + timedelta(days=training.min_history_days)
        as_ofs = [as_of for as_of in as_ofs if as_of >= earliest]
    if len(as_ofs) < training.min_steps:
        earliest_needed = dates.training[training.min_steps - 1] - timedelta(days=training.min_history_days)
        needed = (day - earliest_needed).days + 1
        have = (day - first_day).days + 1 if first_day is not None else 0
        raise TrainingError(
            f"the data of {first_day} to {day} are {have} days, training needs {needed}: min_history_days "
            f"({training.min_history_days}) + {training.min_steps} dates {training.step_days} days apart + two "
            f"horizons of {training.horizon_days}. Load more history or lower settings.training.min_history_days"
        )
    return TrainingDates(dates.holdout, tuple(sorted(as_ofs)), training.steps)
