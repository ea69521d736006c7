"""Evidently's drift page: the columns that moved most, on a seeded sample, by the tests of our verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.evaluation.drift import JENSEN_SHANNON, PREDICTION, PSI, drift_verdict
from evergreen.settings.evaluation import DriftSettings, EvaluationSettings

if TYPE_CHECKING:
    from evergreen.evaluation.scores import Columns


def write_evidently_report(
    reference: Columns,
    current: Columns,
    path: Path,
    settings: EvaluationSettings,
    verdict: dict[str, Any] | None = None,
) -> Path:
    """Writes the page and returns its path.

    It is there to be looked at: its figures are of samples, the verdict's of all rows. Evidently needs a minute for
    200,000 rows of 50 columns; for the sample it needs seconds.

    Args:
        reference: see `drift_verdict`.
        current: see `drift_verdict`.
        path: the HTML file; folders are made.
        settings: rows and columns of the page, tests and thresholds.
        verdict: what `drift_verdict` gave for the same frames, to choose the columns by; computed where not given.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    rules = settings.drift
    verdict = verdict or drift_verdict(reference, current, settings)
    shown = verdict["columns"][: rules.report_columns]
    numbers = [row["column"] for row in shown if row["test"] == PSI]
    categories = [row["column"] for row in shown if row["test"] == JENSEN_SHANNON]
    if verdict["prediction"] is not None:
        numbers.insert(0, PREDICTION)
    columns = [*numbers, *categories]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    sides = [
        Dataset.from_pandas(_sampled(frame, columns, categories, rules), definition) for frame in (reference, current)
    ]
    preset = DataDriftPreset(
        columns=columns,
        num_method=PSI,
        num_threshold=rules.psi_threshold,
        cat_method=JENSEN_SHANNON,
        cat_threshold=rules.jensen_shannon_threshold,
        drift_share=rules.drifted_share,
    )
    snapshot = Report([preset]).run(current_data=sides[1], reference_data=sides[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(path))
    return path


def sample_rows(along: npt.NDArray[Any], rows: int, seed: int) -> npt.NDArray[np.intp]:
    """At most `rows` row numbers, ascending: one drawn from each of so many equal strata along a quantity.

    Along the prediction, so that the rare high predictions are there in their true share.
    """
    if len(along) <= rows:
        return np.arange(len(along))
    starts = np.linspace(0, len(along), rows + 1).astype(np.intp)
    drawn = np.random.default_rng(seed).integers(starts[:-1], starts[1:])
    return np.sort(np.argsort(along, kind="stable")[drawn])


def _sampled(frame: Columns, columns: list[str], categories: list[str], rules: DriftSettings) -> pd.DataFrame:
    """The columns' sampled rows; categories as text with missing ones named, for Evidently takes no mixed columns."""
    along = np.asarray(frame[PREDICTION if PREDICTION in frame else columns[0]])
    rows = sample_rows(along, rules.report_rows, rules.seed)
    table = pd.DataFrame({name: np.asarray(frame[name])[rows] for name in columns})
    return table.assign(**{name: table[name].astype(object).fillna("missing").astype(str) for name in categories})
