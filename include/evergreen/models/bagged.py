"""What candidates share that average a few boosters, each grown on a draw of the negatives of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evergreen.models.candidate import Labels, Rows
from evergreen.models.params import Value
from evergreen.models.preprocessing import Plan
from evergreen.models.sampling import bag_seed, rows_of_bags


class BaggedBoosters:
    """Boosters on raw numbers and category codes; `params` has `bags` and `negative_share`."""

    plan: ClassVar[Plan] = Plan(scale=False, one_hot=False)

    def __init__(self, boosters: Sequence[Any] = ()) -> None:
        self.boosters = tuple(boosters)

    @staticmethod
    def features(params: Mapping[str, Value], available: Sequence[str]) -> list[str]:
        """All of them."""
        return list(available)

    @staticmethod
    def rows(params: Mapping[str, Value], labels: Labels, seed: int) -> Rows | None:
        """What the bags draw: all positives and some of the negatives."""
        return rows_of_bags(labels, float(params["negative_share"]), int(params["bags"]), seed)

    @staticmethod
    def seeds(params: Mapping[str, Value], seed: int) -> list[int]:
        """A seed for each bag."""
        return [bag_seed(seed, bag) for bag in range(int(params["bags"]))]

    def keep(self, fitted: Iterable[tuple[Any, Mapping[str, int]]]) -> dict[str, Any]:
        """Takes a booster of each bag, and gives the means of the facts that come with them."""
        boosters, reports = zip(*fitted, strict=True)
        self.boosters = tuple(boosters)
        return {name: round(sum(report[name] for report in reports) / len(reports)) for name in reports[0]}


def mean_scores(scores: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """The average of the boosters' scores of the same rows, float64[rows]."""
    return np.asarray(np.mean(np.asarray(list(scores), np.float64), axis=0))
