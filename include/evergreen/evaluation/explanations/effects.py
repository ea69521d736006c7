"""How the probability moves with one feature or two, for any model: partial dependence, ALE, interactions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]
Predict = Callable[[pd.DataFrame], Floats]
POINTS = 12  # of a curve
PAIR_POINTS = 6  # of each axis of a pair
CATEGORIES = 10  # shown: the most frequent ones


@dataclass(frozen=True)
class Effect:
    """A curve: `points` are numbers ascending or category names, `values` float64[points]."""

    feature: str
    points: tuple[Any, ...]
    values: Floats


@dataclass(frozen=True)
class Interaction:
    """How much of the joint effect of two features is more than the sum of their own.

    `strength` is 0 where the effects add up; `surface` is the joint partial dependence, float64[len(x), len(y)].
    """

    features: tuple[str, str]
    strength: float
    x: tuple[Any, ...]
    y: tuple[Any, ...]
    surface: Floats


def partial_dependence(predict: Predict, frame: pd.DataFrame, feature: str, points: int = POINTS) -> Effect:
    """Mean prediction where every row has the same value of the feature, at its quantiles or its categories.

    Source: Friedman 2001, "Greedy function approximation: a gradient boosting machine", section 8.2.
    """
    grid = grid_of(frame[feature], points)
    return Effect(feature, grid, _means(predict, frame, [{feature: value} for value in grid]))


def accumulated_local_effects(predict: Predict, frame: pd.DataFrame, feature: str, points: int = POINTS) -> Effect:
    """Effect of a number within the rows that have such values, accumulated and centred at a mean of 0.

    Unlike partial dependence it asks the model for no combination of features that the data do not hold (Apley & Zhu
    2020, "Visualizing the effects of predictor variables in black box supervised learning models", section 3). Rows
    where the number is missing are left out; a feature with one value has the effect 0.
    """
    values = frame[feature].to_numpy(np.float64)
    kept = frame[~np.isnan(values)]
    values = values[~np.isnan(values)]
    edges = np.array(grid_of(kept[feature], points), np.float64)
    if len(edges) < 2:
        return Effect(feature, tuple(edges.tolist()), np.zeros(len(edges)))
    cell = np.clip(np.searchsorted(edges, values, side="left"), 1, len(edges) - 1)
    low, high = (predict(kept.assign(**{feature: _like(edges[cell - side], kept[feature])})) for side in (1, 0))
    counts = np.bincount(cell, minlength=len(edges))[1:]
    steps = np.bincount(cell, weights=high - low, minlength=len(edges))[1:] / np.maximum(counts, 1)
    curve = np.concatenate([[0.0], np.cumsum(steps)])
    centre = np.sum(counts * (curve[1:] + curve[:-1]) / 2) / counts.sum()
    return Effect(feature, tuple(edges.tolist()), curve - centre)


def interactions(predict: Predict, frame: pd.DataFrame, features: Sequence[str]) -> list[Interaction]:
    """Every pair of the features, strongest first.

    The strength is Friedman's H (Friedman & Popescu 2008, "Predictive learning via rule ensembles", section 8.1) on
    a grid instead of the rows: the root of the share of the joint effect's variance that the sum of
    the two effects leaves.
    """
    found = []
    for one, other in combinations(features, 2):
        x, y = grid_of(frame[one], PAIR_POINTS), grid_of(frame[other], PAIR_POINTS)
        cells = [{one: first, other: second} for first in x for second in y]
        surface = _means(predict, frame, cells).reshape(len(x), len(y))
        centred = surface - surface.mean()
        rest = centred - centred.mean(axis=1, keepdims=True) - centred.mean(axis=0, keepdims=True)
        total = float(np.sum(centred**2))
        strength = float(np.sqrt(np.sum(rest**2) / total)) if total > 0 else 0.0
        found.append(Interaction((one, other), strength, x, y, surface))
    return sorted(found, key=lambda pair: (-pair.strength, pair.features))


def grid_of(values: pd.Series, points: int) -> tuple[Any, ...]:
    """Where an effect is looked at: quantiles of a number without repeats, else the most frequent categories."""
    if pd.api.types.is_numeric_dtype(values):
        present = values.to_numpy(np.float64)
        present = present[np.isfinite(present)]
        return tuple(np.unique(np.quantile(present, np.linspace(0, 1, points))).tolist()) if len(present) else ()
    counts = values.value_counts()
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], str(entry[0])))
    return tuple(str(name) for name, _ in ranked[:CATEGORIES])


def _means(predict: Predict, frame: pd.DataFrame, cells: Sequence[dict[str, Any]]) -> Floats:
    """Mean prediction over the frame for each set of values that all rows get."""
    if not cells:
        return np.zeros(0)
    stacked = pd.concat([frame] * len(cells), ignore_index=True)
    for feature in cells[0]:
        given = np.repeat(np.array([cell[feature] for cell in cells], object), len(frame))
        stacked[feature] = _like(given, frame[feature])
    return np.asarray(predict(stacked).reshape(len(cells), len(frame)).mean(axis=1))


def _like(values: npt.NDArray[Any], column: pd.Series) -> npt.NDArray[Any]:
    """Numbers for a number, as they are for a category."""
    return values.astype(np.float64) if pd.api.types.is_numeric_dtype(column) else values
