"""Have features or predictions moved away from what the model was trained on? Named tests, on all rows.

Numbers: population stability index over bins of equal shares of the reference (Siddiqi 2006, chapter 9), with a bin of
its own for missing values. Categories: Jensen-Shannon distance to base 2, 0 (equal) to 1 (nothing in common). Both
measure the size of a shift: p-values would call any shift significant at hundreds of thousands of rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.errors import EvaluationError
from evergreen.settings.evaluation import DriftSettings, EvaluationSettings

if TYPE_CHECKING:
    from evergreen.evaluation.scores import Columns

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float32]

PREDICTION = "probability"
PSI = "psi"
JENSEN_SHANNON = "jensenshannon"


@dataclass(frozen=True)
class ColumnDrift:
    """One column's test."""

    column: str
    test: str  # `psi` or `jensenshannon`: Evidently's own names
    statistic: float
    threshold: float
    drifted: bool


def drift_verdict(reference: Columns, current: Columns, settings: EvaluationSettings) -> dict[str, Any]:
    """Compares all rows of two sets of features, and their predictions where both have a column `probability`.

    Args:
        reference: features that the model was trained on, and its predictions for them: a DataFrame or arrays by name
            (read one at a time; `ChainMap({"probability": predictions}, columns)` adds predictions to what is read).
        current: features of now, and the same model's predictions.
        settings: thresholds, bins and the columns that are not judged.

    Returns:
        `verdict` (`stable` or `drifted`), `reason`, `share_drifted`, `columns` (a row a column, largest statistic to
        threshold first), `prediction` (the same for the predictions, or null), `rows`, `excluded`.

    Raises:
        EvaluationError: a frame is empty, or they have no column to compare.
    """
    rules = settings.drift
    judged, excluded = _judged(reference, current, rules)
    columns = [column_drift(name, pd.Series(reference[name]), pd.Series(current[name]), rules) for name in judged]
    columns.sort(key=lambda one: (-one.statistic / one.threshold, one.column))
    prediction = None
    if PREDICTION in reference and PREDICTION in current:
        statistic = _psi_of(pd.Series(reference[PREDICTION]), pd.Series(current[PREDICTION]), rules.bins)
        limit = rules.prediction_psi_threshold
        prediction = ColumnDrift(PREDICTION, PSI, statistic, limit, statistic >= limit)
    share = sum(one.drifted for one in columns) / len(columns)
    reasons = []
    if share >= rules.drifted_share:
        reasons.append(f"{share:.0%} of the columns drifted (limit {rules.drifted_share:.0%})")
    if prediction is not None and prediction.drifted:
        reasons.append(f"the predictions' PSI is {prediction.statistic:.3f} (limit {prediction.threshold:g})")
    return {
        "verdict": "drifted" if reasons else "stable",
        "reason": "; ".join(reasons),
        "share_drifted": share,
        "columns": [asdict(one) for one in columns],
        "prediction": None if prediction is None else asdict(prediction),
        "rows": {"reference": _rows(reference), "current": _rows(current)},
        "excluded": excluded,
    }


def drift_report(
    reference: Columns,
    current: Columns,
    settings: EvaluationSettings,
    html_path: Path,
    *,
    reference_name: str = "the champion's training data",
) -> dict[str, Any]:
    """`drift_verdict`, and Evidently's page of the columns that moved most.

    Args:
        reference: see `drift_verdict`.
        current: see `drift_verdict`.
        settings: see `drift_verdict`.
        html_path: where the page goes.
        reference_name: what the reference is, in words. At a cold start there is no champion: give the challenger's own
            training data, and say so.

    Returns:
        The verdict, with `reference` (its name) and `report` (the page's path).
    """
    from evergreen.evaluation.drift_page import write_evidently_report  # Evidently takes seconds to import

    verdict = drift_verdict(reference, current, settings) | {"reference": reference_name}
    page = write_evidently_report(reference, current, html_path, settings, verdict)
    return verdict | {"report": str(page)}


def column_drift(name: str, reference: pd.Series[Any], current: pd.Series[Any], rules: DriftSettings) -> ColumnDrift:
    """The test of one column: PSI for numbers, Jensen-Shannon distance for everything else."""
    if _is_number(reference):
        statistic, test, limit = _psi_of(reference, current, rules.bins), PSI, rules.psi_threshold
    else:
        statistic, test, limit = _distance_of(reference, current), JENSEN_SHANNON, rules.jensen_shannon_threshold
    return ColumnDrift(name, test, statistic, limit, statistic >= limit)


@dataclass(frozen=True)
class Ordered:
    """The values of a number column in ascending order: what quantiles and counts are read from without another pass.

    float32, so that a column has the same bins in whichever precision it is stored.
    """

    present: Numbers
    missing: int  # NaN or infinite

    @staticmethod
    def of(values: npt.ArrayLike) -> Ordered:
        """Sorts n values."""
        numbers = np.asarray(values, dtype=np.float32)
        present = np.sort(numbers[np.isfinite(numbers)])
        return Ordered(present, len(numbers) - len(present))

    def edges(self, bins: int) -> Numbers:
        """Inner edges of bins `[edge, next edge)` that hold equal shares of these values.

        A value so frequent that it spans a whole bin gets a bin of its own: of a column that is zero in 95 % of the
        rows, or constant, all quantiles are equal, and no shift would ever be seen. Values outside the range of these
        fall into the outer bins.
        """
        if not len(self.present):
            return self.present
        places = np.arange(bins + 1) * (len(self.present) - 1) // bins
        quantiles, spans = np.unique(self.present[places], return_counts=True)
        frequent = quantiles[spans > 1]
        inner = quantiles[(quantiles > self.present[0]) & (quantiles < self.present[-1])]
        return np.unique(np.concatenate([inner, frequent, np.nextafter(frequent, np.float32(np.inf))]))

    def shares(self, edges: Numbers) -> Floats:
        """Share of values in each bin, then of missing ones, shape (len(edges) + 2,); half a row more in each bin.

        The half row (Krichevsky & Trofimov 1981) keeps the logarithm of an empty bin finite, and vanishes with many
        rows.
        """
        cuts = np.searchsorted(self.present, edges, side="left")
        counts = np.append(np.diff(cuts, prepend=0, append=len(self.present)), self.missing)
        shares: Floats = (counts + 0.5) / (counts.sum() + len(counts) / 2)
        return shares


def population_stability_index(reference: Floats, current: Floats) -> float:
    """PSI of two vectors of shares: sum of (current - reference) ln(current / reference)."""
    return float(np.sum((current - reference) * np.log(current / reference)))


def jensen_shannon_distance(reference: Floats, current: Floats) -> float:
    """Root of the Jensen-Shannon divergence to base 2 of two vectors of shares (Endres & Schindelin 2003)."""
    middle = (reference + current) / 2

    def divergence(part: Floats) -> float:
        seen = part > 0
        return float(np.sum(part[seen] * np.log2(part[seen] / middle[seen])))

    return float(np.sqrt(max(0.0, (divergence(reference) + divergence(current)) / 2)))


def _psi_of(reference: pd.Series[Any], current: pd.Series[Any], bins: int) -> float:
    old, new = Ordered.of(reference), Ordered.of(current)
    edges = old.edges(bins)
    return population_stability_index(old.shares(edges), new.shares(edges))


def _distance_of(reference: pd.Series[Any], current: pd.Series[Any]) -> float:
    old, new = (column.value_counts(normalize=True, dropna=False) for column in (reference, current))
    names = old.index.union(new.index)
    both: list[Floats] = [np.asarray(side.reindex(names, fill_value=0.0), np.float64) for side in (old, new)]
    return jensen_shannon_distance(*both)


def _is_number(column: pd.Series[Any]) -> bool:
    return column.dtype.kind in "iufb"


def _rows(frame: Columns) -> int:
    return next((len(frame[str(name)]) for name in frame), 0)


def _judged(reference: Columns, current: Columns, rules: DriftSettings) -> tuple[list[str], list[str]]:
    """Columns that both frames have and that are not excluded, and those that are."""
    for name, frame in (("reference", reference), ("current", current)):
        if not _rows(frame):
            raise EvaluationError(f"the {name} data have no rows: there is nothing to compare")
    known = {str(name) for name in current}  # `in` would read the whole column of a file
    common = [str(name) for name in reference if name in known and name != PREDICTION]
    excluded = [name for name in common if any(fnmatch(name, pattern) for pattern in rules.exclude)]
    judged = [name for name in common if name not in set(excluded)]
    if not judged:
        raise EvaluationError("reference and current data have no column in common that is not excluded")
    return judged, excluded
