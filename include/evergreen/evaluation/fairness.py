"""How far a model's treatment of one slice lies from that of all other pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.evaluation.intervals import drawn
from evergreen.evaluation.metrics import Panel
from evergreen.evaluation.scores import Scores
from evergreen.evaluation.slices import sizeable_slices
from evergreen.settings.evaluation import EvaluationSettings

Floats = npt.NDArray[np.float64]

FORMAT = "evergreen.fairness/1"


def fairness(scores: Scores, settings: EvaluationSettings) -> dict[str, Any]:
    """Gaps between each sizeable slice and the other pairs of its dimension, with the error that chance gives them.

    Two kinds: `recall`, the share of what was bought again that reaches the policy's threshold (equal opportunity;
    Hardt, Price, Srebro 2016, section 2), and `calibration`, the logarithm of mean probability over share bought.
    Customers are resampled as everywhere; one draw weighs the slice and the others alike.

    Returns:
        JSON: `rows`, each with `dimension`, `slice`, `metric`, `gap` (slice minus others) and `standard_error`.

    Raises:
        EvaluationError: the scores are empty or not finite.
    """
    sums = _Sums(scores, settings)
    rows: list[dict[str, Any]] = []
    for part in sizeable_slices(scores, settings.slices):
        if part.dimension not in settings.fairness.dimensions or len(part.rows) == len(scores):
            continue
        inside = np.zeros(len(scores), dtype=bool)
        inside[part.rows] = True
        for metric, values in sums.gaps(inside).items():
            samples = values[1:][np.isfinite(values[1:])]
            if np.isfinite(values[0]) and len(samples) > 1:
                rows.append(
                    {
                        "dimension": part.dimension,
                        "slice": part.label,
                        "metric": metric,
                        "gap": float(values[0]),
                        "standard_error": float(samples.std(ddof=1)),
                    }
                )
    return {"format": FORMAT, "rows": rows}


class _Sums:
    """Per-customer sums of what the gaps are made of, under all draws at once; draw 0 is everybody once."""

    def __init__(self, scores: Scores, settings: EvaluationSettings) -> None:
        panel = Panel(scores, settings)
        reached = scores.probabilities >= settings.policy.decision_threshold
        self._parts = (scores.labels.astype(np.float64), reached * scores.labels, scores.probabilities)
        self._codes = np.searchsorted(panel.customers.astype(str), scores.customer_ids.astype(str))
        self._count = len(panel.customers)
        self._weights = np.concatenate([np.ones((self._count, 1)), *drawn(self._count, settings)], axis=1)

    def gaps(self, inside: npt.NDArray[np.bool_]) -> dict[str, Floats]:
        """Each gap under each weighting, shape (1 + draws,)."""
        (recall, calibration), (recall_others, calibration_others) = self._measure(inside), self._measure(~inside)
        return {"recall": recall - recall_others, "calibration": calibration - calibration_others}

    def _measure(self, rows: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        codes = self._codes[rows]
        sums = np.stack([np.bincount(codes, part[rows], self._count) for part in self._parts])
        positives, reached, probability = np.einsum("kc,cd->kd", sums, self._weights)
        some = np.where(positives > 0, positives, np.nan)
        return reached / some, np.log(probability / some)
