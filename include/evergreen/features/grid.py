"""The `as_of` dates that a day of data needs snapshots for: its own, the holdout's and the training grid's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from evergreen.settings.training import TrainingSettings


@dataclass(frozen=True)
class Grid:
    """Dates as of which features of one day of data are read."""

    as_of: date  # the day after the newest data: what is scored
    holdout: date  # newest `as_of` whose label window is over: what the gate reads
    training: tuple[date, ...]  # newest first, each with its label window over before the holdout

    @property
    def dates(self) -> list[date]:
        """All of them, sorted."""
        return sorted({self.as_of, self.holdout, *self.training})


def grid(day: date, training: TrainingSettings) -> Grid:
    """The grid of a day of data.

    With `as_of = day + 1` and a horizon of h days, the holdout is `as_of - h` and the newest training date is
    `holdout - h`: an embargo of a whole label window lies between training and holdout. The dates before it lie on the
    same weekday whatever the day (for a step of a week), so that tomorrow finds all of them made but one.
    """
    as_of = day + timedelta(days=1)
    holdout = as_of - timedelta(days=training.horizon_days)
    newest = holdout - timedelta(days=training.horizon_days)
    step = training.step_days
    # At least half a step before the newest: two days next to each other would be almost the same rows twice.
    latest = newest - timedelta(days=(step + 1) // 2)
    anchor = latest - timedelta(days=latest.toordinal() % step)
    anchored = (anchor - timedelta(days=step * k) for k in range(training.steps - 1))
    return Grid(as_of, holdout, (newest, *anchored))
