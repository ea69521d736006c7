"""What a model loses when features are missing, noisy, or nudged against it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evergreen.evaluation.behaviour import Predict
from evergreen.evaluation.ranking import Ranking
from evergreen.models.preprocessing import FeatureKind
from evergreen.settings.checks import RobustnessSettings

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

FORMAT = "evergreen.robustness/1"
PROBE_ROWS = 300  # rows on which the features are found that move scores most
OF_THE_DAY = ("month", "week_of_year", "day_of_week", "days_to_christmas", "christmas_*", "year_*", "label_middle_*")
"""Features of the calendar: nobody nudges a date."""


def robustness(
    predict: Predict,
    frame: pd.DataFrame,
    features: Sequence[tuple[str, FeatureKind]],
    settings: RobustnessSettings,
) -> dict[str, Any]:
    """Scores rows of the holdout as they are and with broken features; the same inputs give the same figures.

    `missing`: a share of all values goes missing. `noisy`: each number gets normal noise. `nudged`: for each row, those
    numbers that move scores most are moved a step, each in the direction that is worse for this row (a pair that was
    bought again down, another one up): a greedy attack that sees labels and scores, not the model's inside.

    Args:
        predict: the model.
        frame: the holdout with `label`.
        features: name and kind of what the model reads.
        settings: shares, sizes, seed.

    Returns:
        JSON, for each kind: `roc_auc_loss`, `average_precision_loss_share`, and `roc_auc` before and after.
    """
    rng = np.random.default_rng(settings.seed)
    read = [(name, kind) for name, kind in features if name in frame]
    numbers = [name for name, kind in read if kind == "number" and not any(fnmatch(name, one) for one in OF_THE_DAY)]
    spread = {name: float(np.nanstd(np.asarray(frame[name], np.float64))) for name in numbers}
    numbers = [name for name in numbers if spread[name] > 0]
    some = _take(frame, settings.rows, rng)
    few = _take(frame, settings.nudged_rows, rng)
    return {
        "format": FORMAT,
        "missing": _loss(predict, some, _missing(some, [name for name, _ in read], settings.missing_share, rng)),
        "noisy": _loss(predict, some, _noisy(some, {name: settings.noise * spread[name] for name in numbers}, rng)),
        "nudged": _loss(
            predict,
            few,
            _nudged(predict, few, {name: settings.nudge * spread[name] for name in numbers}, settings.nudged_features),
        ),
    }


def _missing(frame: pd.DataFrame, names: Sequence[str], share: float, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].mask(rng.random(len(frame)) < share) for name in names})


def _noisy(frame: pd.DataFrame, sizes: dict[str, float], rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(**{name: frame[name] + rng.normal(0, size, len(frame)) for name, size in sizes.items()})


def _nudged(predict: Predict, frame: pd.DataFrame, steps: dict[str, float], most: int) -> pd.DataFrame:
    probe = frame.iloc[:: max(1, len(frame) // PROBE_ROWS)]
    moved = {name: float(np.abs(_moves(predict, probe, name, step)).mean()) for name, step in steps.items()}
    chosen = sorted(moved, key=lambda name: (-moved[name], name))[:most]
    wrong_way = np.where(np.asarray(frame["label"]) == 1, -1.0, 1.0)
    nudged = {}
    for name in chosen:
        up, down = _moves(predict, frame, name, steps[name]) * wrong_way
        direction = np.where((up <= 0) & (down <= 0), 0.0, np.where(up >= down, 1.0, -1.0))
        nudged[name] = frame[name] + direction * steps[name]
    return frame.assign(**nudged)


def _moves(predict: Predict, frame: pd.DataFrame, name: str, step: float) -> Floats:
    """Change of each row's probability when a number moves up and down by a step, shape (2, rows)."""
    usual = predict(frame)
    return np.stack([predict(frame.assign(**{name: frame[name] + move})) - usual for move in (step, -step)])


def _loss(predict: Predict, usual: pd.DataFrame, broken: pd.DataFrame) -> dict[str, float]:
    labels = np.asarray(usual["label"], np.int8)
    before, after = (Ranking(labels, predict(each)).weigh() for each in (usual, broken))
    precision = before.average_precision()
    return {
        "roc_auc_before": before.roc_auc(),
        "roc_auc_after": after.roc_auc(),
        "roc_auc_loss": before.roc_auc() - after.roc_auc(),
        "average_precision_loss_share": (precision - after.average_precision()) / precision,
        "rows": len(usual),
    }


def _take(frame: pd.DataFrame, limit: int, rng: np.random.Generator) -> pd.DataFrame:
    if len(frame) <= limit:
        return frame
    return frame.iloc[np.sort(rng.choice(len(frame), limit, replace=False))].reset_index(drop=True)
