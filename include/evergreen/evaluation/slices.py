"""Slices of the holdout: where a model that is good on the whole may be bad for some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.evaluation.intervals import bootstrap
from evergreen.evaluation.metrics import Panel
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import EvaluationSettings, SliceSettings

if TYPE_CHECKING:
    from evergreen.evaluation.scores import Columns

Labels = npt.NDArray[np.object_]

OTHER = "other"
UNKNOWN = "unknown"
NEW_PRODUCT_DAYS = 90
TENURES = ((90, "under 90 days"), (365, "90 to 364 days"), (np.inf, "365 days or more"))
PRODUCT_AGES = ((NEW_PRODUCT_DAYS, f"new, under {NEW_PRODUCT_DAYS} days"), (np.inf, "old"))


def slice_labels(frame: Columns) -> dict[str, Labels]:
    """A slice label a row for each dimension, from the model's own features.

    Args:
        frame: features by name: `country`, `customer_tenure_days`, `price_tier`, `product_age_days`.

    Returns:
        `country`, `tenure`, `price_band` and `product_age`, each of shape (rows,); `unknown` where a value is missing.
    """
    return {
        "country": _named(frame["country"]),
        "tenure": _banded(frame["customer_tenure_days"], TENURES),
        "price_band": _named(frame["price_tier"]),
        "product_age": _banded(frame["product_age_days"], PRODUCT_AGES),
    }


@dataclass(frozen=True)
class Slice:
    """Rows of one slice that is large enough to be judged."""

    dimension: str
    label: str
    rows: npt.NDArray[np.intp]


def sizeable_slices(scores: Scores, minimum: SliceSettings) -> Iterator[Slice]:
    """Slices of every dimension, largest first; small ones are merged into `other`, which may be too small itself."""
    for dimension, labels in scores.slices.items():
        codes, names = pd.factorize(labels, sort=True)
        members = [np.flatnonzero(codes == code) for code in range(len(names))]
        large = [_is_large(scores, rows, minimum) for rows in members]
        found = [
            Slice(dimension, str(name), rows) for name, rows, big in zip(names, members, large, strict=True) if big
        ]
        small = [rows for rows, big in zip(members, large, strict=True) if not big]
        yield from sorted(found, key=lambda one: -len(one.rows))
        if small and _is_large(scores, rest := np.sort(np.concatenate(small)), minimum):
            yield Slice(dimension, OTHER, rest)


def evaluate_slices(scores: Scores, settings: EvaluationSettings) -> list[dict[str, Any]]:
    """All metrics with intervals for each slice that is large enough: JSON rows.

    Each row has `dimension`, `slice`, `pairs`, `positives`, `customers`, `base_rate` and `metrics`
    (`{name: {value, low, high}}`).
    """
    return [_row(one, scores.take(one.rows), settings) for one in sizeable_slices(scores, settings.slices)]


def _row(one: Slice, scores: Scores, settings: EvaluationSettings) -> dict[str, Any]:
    panel = Panel(scores, settings)
    intervals = bootstrap(panel).intervals(settings.confidence)
    totals = panel.totals()
    return {
        "dimension": one.dimension,
        "slice": one.label,
        "pairs": int(totals["pairs"]),
        "positives": int(totals["positives"]),
        "customers": int(totals["customers"]),
        "base_rate": totals["positives"] / totals["pairs"],
        "metrics": {name: interval.as_dict() for name, interval in intervals.items()},
    }


def _is_large(scores: Scores, rows: npt.NDArray[np.intp], minimum: SliceSettings) -> bool:
    return (
        len(rows) >= minimum.min_pairs
        and int(scores.labels[rows].sum()) >= minimum.min_positives
        and len(pd.unique(scores.customer_ids[rows])) >= minimum.min_customers
    )


def _named(values: Any) -> Labels:
    names = pd.Series(values).astype(object)
    return np.asarray(names.where(names.notna() & (names != ""), UNKNOWN), dtype=object)


def _banded(values: Any, bands: tuple[tuple[float, str], ...]) -> Labels:
    numbers = np.asarray(values, dtype=np.float64)
    names = np.array([*(name for _, name in bands), UNKNOWN], dtype=object)
    ends = np.array([end for end, _ in bands[:-1]])
    codes = np.searchsorted(ends, numbers, side="right")
    return names[np.where(np.isnan(numbers), len(bands), codes)]
