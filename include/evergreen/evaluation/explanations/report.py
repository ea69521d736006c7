"""Everything that is said about why a model decides as it does, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evergreen.evaluation.explanations.attribution import Attribution, attribute, drawn
from evergreen.evaluation.explanations.effects import (
    accumulated_local_effects,
    interactions,
    partial_dependence,
)
from evergreen.evaluation.explanations.probe import random_probe
from evergreen.evaluation.explanations.reasons import reasons
from evergreen.models.bundle import Bundle
from evergreen.models.contributions import log_odds
from evergreen.settings.explanations import ExplanationSettings

if TYPE_CHECKING:
    from evergreen.evaluation.explanations.effects import Effect, Predict

FORMAT = "evergreen.explanations/1"
SPACE = "log-odds before calibration"
DOTS = 250  # of a dependence plot
EXAMPLES = 6
DIGITS = 6  # figures are rounded so that the last bits of a sum do not change the document's digest


def explain(
    bundle: Bundle, frame: pd.DataFrame, settings: ExplanationSettings, training: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Explains a model on a sample of labelled pairs.

    Args:
        bundle: the model.
        frame: `customer_id`, `product_id`, `label` and the features, one row a pair: the holdout.
        settings: how many rows, seed: the same inputs give the same document.
        training: rows like those of `frame` for the twin of the random probe; None: those of `frame`.

    Returns:
        JSON: `format`, `method`, `space`, `rows`, `base` (mean log-odds where nothing is known), and

        - `global`: a list of feature, mean_abs, share, rank, most important first;
        - `additivity`: max_error (greatest difference between a score that the contributions give and `predict`'s
          before calibration), averaging_gap (greatest difference between their sum and that score in log-odds, where
          several models' scores are averaged), rows;
        - `random_probe`: rank, of, share;
        - `dependence` of the most important features: dots, partial_dependence, ale;
        - `interactions`: pairs, strongest first;
        - `examples`: predictions with their reasons.

    Raises:
        BundleError: the frame lacks a feature that the model needs.
    """
    found = attribute(bundle, frame, settings)
    ranked = _ranked(found)
    names = [entry["feature"] for entry in ranked if entry["mean_abs"] > 0]
    background = frame.iloc[drawn(len(frame), settings.background_rows, settings.seed + 1)].reset_index(drop=True)
    return {
        "format": FORMAT,
        "method": found.method,
        "space": SPACE,
        "rows": len(found.frame),
        "base": _rounded(found.base.mean()),
        "global": ranked,
        "additivity": _additivity(found),
        "random_probe": random_probe(bundle, frame if training is None else training, settings),
        "dependence": [_dependence(bundle, found, background, name) for name in names[: settings.dependence_features]],
        "interactions": [
            {
                "features": list(pair.features),
                "strength": _rounded(pair.strength),
                "x": _points(pair.x),
                "y": _points(pair.y),
                "surface": [[_rounded(value) for value in line] for line in pair.surface],
            }
            for pair in interactions(log_odds_of(bundle), background, names[: settings.interaction_features])
        ],
        "examples": _examples(bundle, found, settings),
    }


def log_odds_of(bundle: Bundle) -> Predict:
    """The model's log-odds before calibration, as a function of features: what contributions add up to."""
    return lambda frame: log_odds(bundle.scores(frame))


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the evidence keeps of the document: figures, no curves."""
    kept = ("format", "method", "space", "rows", "base", "global", "additivity", "random_probe")
    return {key: document[key] for key in kept}


def _ranked(found: Attribution) -> list[dict[str, Any]]:
    mean_abs = found.mean_abs
    total = float(mean_abs.sum()) or 1.0
    order = sorted(range(len(mean_abs)), key=lambda place: (-mean_abs[place], found.features[place]))
    return [
        {
            "feature": found.features[place],
            "mean_abs": _rounded(mean_abs[place]),
            "share": _rounded(mean_abs[place] / total),
            "rank": rank,
        }
        for rank, place in enumerate(order, start=1)
    ]


def _additivity(found: Attribution) -> dict[str, Any]:
    margins = found.values.sum(axis=1) + found.base
    return {
        "max_error": float(f"{np.max(np.abs(found.rebuilt - found.scores)):.2g}"),
        "averaging_gap": _rounded(np.max(np.abs(margins - log_odds(found.scores)))),
        "rows": len(found.scores),
    }


def _dependence(bundle: Bundle, found: Attribution, background: pd.DataFrame, feature: str) -> dict[str, Any]:
    values = found.frame[feature]
    number = pd.api.types.is_numeric_dtype(values)
    rows = np.unique(np.linspace(0, len(values) - 1, min(len(values), DOTS)).round().astype(np.intp))
    contributions = found.values[:, found.features.index(feature)]
    dots = [
        [point, _rounded(contributions[row])]
        for row, point in zip(rows, _points(values.iloc[rows].tolist()), strict=True)
        if point is not None
    ]
    return {
        "feature": feature,
        "kind": "number" if number else "category",
        "dots": dots,
        "partial_dependence": _curve(partial_dependence(bundle.predict, background, feature)),
        "ale": _curve(accumulated_local_effects(bundle.predict, background, feature)) if number else [],
    }


def _examples(bundle: Bundle, found: Attribution, settings: ExplanationSettings) -> list[dict[str, Any]]:
    """The likeliest, the unlikeliest and some between, with their reasons."""
    probabilities = bundle.calibration.apply(found.scores)
    places = np.unique(np.linspace(0, len(probabilities) - 1, EXAMPLES).round().astype(np.intp))
    rows = np.argsort(-probabilities, kind="stable")[places]
    told = reasons(found, rows, settings.reasons)
    columns = [name for name in ("customer_id", "product_id") if name in found.frame]
    return [
        {name: str(found.frame[name].iloc[row]) for name in columns}
        | {"probability": _rounded(probabilities[row]), "reasons": [one.as_dict() for one in of_row]}
        for row, of_row in zip(rows, told, strict=True)
    ]


def _curve(effect: Effect) -> list[list[Any]]:
    return [[point, _rounded(value)] for point, value in zip(_points(effect.points), effect.values, strict=True)]


def _points(values: Any) -> list[Any]:
    """Numbers rounded, missing ones as None, names as they are."""
    return [
        value if isinstance(value, str) else None if value is None or value != value else _rounded(value)
        for value in values
    ]


def _rounded(value: Any) -> float:
    return float(f"{float(value):.{DIGITS}g}")
