"""Curves for the eye: ROC and precision-recall in few points, calibration with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.evaluation.intervals import draws, percentile_interval
from evergreen.evaluation.metrics import Panel

Floats = npt.NDArray[np.float64]
POINTS = 100
LIFT_PAIRS = 200  # of fewer pairs the lift is mostly luck


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


def campaign_curves(panel: Panel) -> dict[str, list[list[float]]]:
    """What contacting the likeliest pairs would have reached, against the share of all pairs that are contacted.

    `gain`: share of the purchases among them; `lift`: how many times those of as many pairs at random; `profit`:
    margin of the purchases less the cost of the contacts, per 1,000 customers. At most about 100 points each.
    """
    ranking, totals, policy = panel.ranking, panel.totals(), panel.settings.policy
    if not totals["positives"]:
        return {"gain": [], "lift": [], "profit": []}
    through = ranking.step_starts[1:].astype(np.float64)
    found = np.searchsorted(ranking.positive_rows, ranking.step_starts[1:]).astype(np.float64)
    share, reached = through / totals["pairs"], found / totals["positives"]
    earned = found * policy.margin_per_conversion - through * policy.cost_per_contact
    profit = np.stack([share, earned * 1000 / totals["customers"]], axis=1)
    gain = np.stack([share, reached], axis=1)
    lift = np.stack([share, reached / share], axis=1)[through >= min(LIFT_PAIRS, totals["pairs"])]
    start = [[0.0, 0.0]]
    return {
        "gain": start + _thin(gain, gain.sum(axis=1)),
        "lift": _thin(lift, lift[:, 0]),
        "profit": start + _thin(profit, gain.sum(axis=1)),
    }


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
