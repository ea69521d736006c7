"""Everything that is said about a model on its holdout, as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evergreen.evaluation.curves import calibration_curve, campaign_curves, ranking_curves
from evergreen.evaluation.intervals import bootstrap
from evergreen.evaluation.metrics import Panel
from evergreen.evaluation.readiness import as_json, readiness
from evergreen.evaluation.scores import Scores
from evergreen.evaluation.slices import evaluate_slices, slice_labels
from evergreen.settings.evaluation import EvaluationSettings

if TYPE_CHECKING:
    from evergreen.evaluation.scores import Columns

FORMAT = "evergreen.evaluation/1"


def model_scores(predict: Callable[[Any], npt.NDArray[np.float64]], frame: Columns) -> Scores:
    """Scores of a model on a labelled holdout.

    Args:
        predict: features in, probabilities out, such as `Bundle.predict`.
        frame: `customer_id`, `product_id`, `label` and the features, one row a pair; a DataFrame or arrays by name.
    """
    return Scores(
        np.asarray(frame["customer_id"], dtype=object),
        np.asarray(frame["product_id"], dtype=object),
        np.asarray(frame["label"], dtype=np.int8),
        np.asarray(predict(frame), dtype=np.float64),
        slice_labels(frame),
    )


def evaluate(scores: Scores, settings: EvaluationSettings, heuristics: Mapping[str, Scores]) -> dict[str, Any]:
    """A model's evaluation, JSON-able; undefined figures are null.

    Args:
        scores: the model on the holdout.
        settings: policy, floors, slices, bootstrap.
        heuristics: the baselines on the same pairs, by name.

    Returns:
        `counts`, `base_rate`, `mean_probability`, `threshold`, `policy`, `metrics` (`{name: {value, low, high}}`),
        `confusion_matrix`, `calibration_curve`, `curves`, `heuristics` (metrics of each), `slices` (rows),
        `readiness` (`status`, `rows`), `resamples`, `confidence`.

    Raises:
        EvaluationError: scores are empty or not finite, or a heuristic was scored on other pairs.
    """
    panel = Panel(scores, settings)
    rivals: dict[str, Panel] = {}
    for name, rival in heuristics.items():
        scores.check_same_pairs(rival)
        rivals[name] = Panel(rival, settings)
    totals = panel.totals()
    counts = {
        name: round(totals[name]) for name in ("pairs", "positives", "customers", "buyers", "contacts", "conversions")
    }
    metrics = _metrics(panel)
    of_rivals = {name: _metrics(rival) for name, rival in rivals.items()}
    return {
        "format": FORMAT,
        "counts": counts,
        "base_rate": totals["positives"] / totals["pairs"],
        "mean_probability": totals["probability"] / totals["pairs"],
        "threshold": settings.policy.decision_threshold,
        "policy": settings.policy.model_dump(mode="json"),
        "metrics": metrics,
        "confusion_matrix": _confusion_matrix(totals),
        "calibration_curve": calibration_curve(panel),
        "curves": {
            name: ranking_curves(one) | campaign_curves(one) for name, one in {"model": panel, **rivals}.items()
        },
        "heuristics": of_rivals,
        "slices": evaluate_slices(scores, settings),
        "readiness": as_json(readiness(counts, metrics, of_rivals, settings.floors)),
        "resamples": settings.resamples,
        "confidence": settings.confidence,
    }


def _metrics(panel: Panel) -> dict[str, dict[str, float | None]]:
    intervals = bootstrap(panel).intervals(panel.settings.confidence)
    return {name: interval.as_dict() for name, interval in intervals.items()}


def _confusion_matrix(totals: Mapping[str, float]) -> dict[str, int]:
    hits, said_yes = round(totals["true_positives"]), round(totals["said_yes"])
    positives, pairs = round(totals["positives"]), round(totals["pairs"])
    return {
        "true_positives": hits,
        "false_positives": said_yes - hits,
        "false_negatives": positives - hits,
        "true_negatives": pairs - positives - said_yes + hits,
    }
