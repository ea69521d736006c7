"""Rolling-origin folds: train on dates whose label windows are closed, judge as of a later one (Tashman 2000).

Two walls stand between the sides of a fold. In time: a horizon lies between the newest training date and the date that
is judged, as between training set and holdout. In customers: a fold is judged on customers that it does not train on,
drawn from the training customers, other ones for each fold. Customers held out for early stopping stop the trials, too;
those held out for the choice among candidates are not read, so that a candidate that was searched has no advantage
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.training.splits import share_of

Customers = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fold:
    """Training dates, ascending, and the date that is judged. `number` counts from 0, the earliest date."""

    number: int
    train: tuple[date, ...]
    validation: date


@dataclass(frozen=True)
class FoldCustomers:
    """Which customers a fold is judged on, and which are read at all: by salted hash, the same in every process."""

    salt: str
    validation_share: float
    customers_share: float

    def read(self, customer_ids: Customers) -> Mask:
        """Which rows are read, bool[rows]."""
        return self._drawn(customer_ids, "read", 0.0, self.customers_share)

    def judged(self, customer_ids: Customers, fold: Fold) -> Mask:
        """Which rows are of customers that the fold is judged on, bool[rows]."""
        first = fold.number * self.validation_share
        return self._drawn(customer_ids, "judge", first, first + self.validation_share)

    def _drawn(self, customer_ids: Customers, purpose: str, first: float, last: float) -> Mask:
        identifiers = np.asarray(customer_ids, object).tolist()
        salt = f"{self.salt}\0search\0{purpose}"
        drawn = {one: first <= share_of(salt, str(one)) < last for one in set(identifiers)}
        return np.array([drawn[one] for one in identifiers], bool)


def rolling_folds(
    as_ofs: Sequence[date], horizon_days: int, wanted: int, stopping: Sequence[date] = ()
) -> tuple[Fold, ...]:
    """The newest `wanted` folds that the dates allow, in ascending order: the earliest is the cheapest.

    Args:
        as_ofs: training dates.
        horizon_days: length of the label window: a training date lies at least so many days before the judged one.
        wanted: folds at most.
        stopping: dates as of which the customers for early stopping are read: a fold trains on one at least; none for
            all dates.

    Raises:
        TrainingError: no date lies a horizon behind the first one of `stopping`.
    """
    dates = sorted(as_ofs)
    horizon = timedelta(days=horizon_days)
    pairs = [(tuple(one for one in dates if one + horizon <= judged), judged) for judged in dates]
    read = set(stopping or dates)
    found = [(train, judged) for train, judged in pairs if read & set(train)][-wanted:]
    if not found:
        span = (dates[-1] - min(read)).days if dates else 0
        raise TrainingError(
            f"the training dates span {span} days, a fold of the search needs {horizon_days} between the date that it "
            "learns from and the one that it is judged at: raise settings.training.steps and inner_steps, or load more "
            "history"
        )
    return tuple(Fold(number, train, judged) for number, (train, judged) in enumerate(found))
