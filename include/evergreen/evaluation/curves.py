"""Curves for the eye: ROC and precision-recall in few points, calibration with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.evaluation.intervals import draws, percentile_interval
from evergreen.evaluation.metrics import Panel

Floats = npt.NDArray[np.float64]
POINTS = 100


def ranking_curves(panel: Panel) -> dict[str, list[list[float]]]:
    """`roc`: (false positive share, recall); `precision_recall`: (recall, precision). At most about 100 points each."""
    ranking = panel.ranking
    totals = panel.totals()
    through = ranking.step_starts[1:].astype(np.float64)
    found = np.searchsorted(ranking.positive_rows, ranking.step_starts[1:]).astype(np.float64)
    positives, negatives = totals["positives"], totals["pairs"] - totals["positives"]
    if not positives or not negatives:
        return {"roc": [], "precision_recall": []}
    recall, false_share, precision = found / positives, (through - found) / negatives, found / through
    roc = np.stack([np.append(0.0, false_share), np.append(0.0, recall)], axis=1)
    steps = np.stack([recall, precision], axis=1)
    return {"roc": _thin(roc, roc.sum(axis=1)), "precision_recall": _thin(steps[found > 0], recall[found > 0])}


def calibration_curve(panel: Panel) -> list[dict[str, float | None]]:
    """Bins of equal mass from low to high: `pairs`, mean `predicted`, share `bought` with `low` and `high`.

    Bins that one large tie leaves empty are left out.
    """
    settings = panel.settings
    table = panel.weigh().calibration(settings.calibration_bins)
    samples = np.array(
        [
            panel.weigh(weights).calibration(settings.calibration_bins)[:, 2]
            for weights in draws(len(panel.customers), settings)
        ]
    )
    curve: list[dict[str, float | None]] = []
    for (mass, predicted, bought), column in zip(table, samples.T, strict=True):
        if mass:
            ends = percentile_interval(float(bought), column, settings.confidence).as_dict()
            curve.append(
                {
                    "pairs": float(mass),
                    "predicted": float(predicted),
                    "bought": ends["value"],
                    "low": ends["low"],
                    "high": ends["high"],
                }
            )
    return curve


def _thin(points: Floats, along: Floats) -> list[list[float]]:
    """About `POINTS` of the points, evenly spread along a rising quantity; the first and the last always."""
    wanted = np.linspace(along[0], along[-1], POINTS)
    rows = np.unique(np.append(np.searchsorted(along, wanted), len(points) - 1).clip(0, len(points) - 1))
    result: list[list[Any]] = np.round(points[rows], 5).tolist()
    return result
