"""The metrics of every table, gate and report, computed from per-customer sums and one presorted ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.evaluation.places import Places, ndcg_by_customer
from evergreen.evaluation.ranking import Ranking, Segments, WeighedRanking, calibration_error
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import ContactRule, EvaluationSettings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """What a reader and a gate must know about a metric."""

    name: str
    title: str
    higher_is_better: bool
    doc: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", "ROC AUC", True, "Chance that a pair bought again stands above one that was not."),
        Metric("average_precision", "Average precision", True, "Area under the precision-recall steps."),
        Metric("average_precision_lift", "AP lift", True, "Average precision over the base rate."),
        Metric("log_loss", "Log loss", False, "Mean negative log-likelihood, nats per pair."),
        Metric("brier", "Brier score", False, "Mean squared difference of probability and label."),
        Metric("ece", "ECE", False, "Expected calibration error over bins of equal mass."),
        Metric(
            "accuracy", "Accuracy", True, "Share of right decisions at the threshold; says little at a low base rate."
        ),
        Metric(
            "precision", "Precision", True, "Share of contacts at the threshold that were bought again; 0 without any."
        ),
        Metric("recall", "Recall", True, "Share of what was bought again that reaches the threshold."),
        Metric("f1", "F1", True, "Harmonic mean of precision and recall at the threshold."),
        Metric("ndcg_at_10", "NDCG@10", True, "Mean over customers who bought anything again."),
        Metric(
            "recall_at_10", "Recall@10", True, "Share of a customer's purchases among their first ten; mean over those."
        ),
        Metric(
            "campaign_profit", "Campaign profit", True, "Currency units per 1,000 customers under the contact policy."
        ),
    )
}
TOP = 10  # the length of the list in NDCG@10 and recall@10
RANKED = frozenset({"roc_auc", "average_precision", "average_precision_lift"})
CHUNK = 4_000_000  # numbers that a step of `Panel.measure_many` holds at a time


class Panel:
    """Scores made ready for resampling: sums of each customer, and the ranking of all pairs.

    Args:
        scores: n pairs of one model.
        settings: threshold, contact policy and bins.

    Raises:
        EvaluationError: the scores are empty or not finite.
    """

    def __init__(self, scores: Scores, settings: EvaluationSettings) -> None:
        scores.check()
        self.settings = settings
        codes, customers = pd.factorize(scores.customer_ids, sort=True)
        self.customers: npt.NDArray[np.object_] = np.asarray(customers)
        self._scores = scores
        self._codes = codes.astype(np.intp)
        self._sums = _sums(self._codes, scores, settings)

    @cached_property
    def ranking(self) -> Ranking:
        """All pairs, sorted once."""
        return Ranking(self._scores.labels, self._scores.probabilities)

    @cached_property
    def _ranked_customers(self) -> npt.NDArray[np.intp]:
        return self._codes[self.ranking.order]

    @cached_property
    def _segments(self) -> Segments:
        return Segments(self.ranking, self._ranked_customers, len(self.customers))

    def weigh(self, customer_weights: Floats | None = None) -> WeighedRanking:
        """The ranking under a weight a customer, in the order of `customers`; none: all 1."""
        return self.ranking.weigh(None if customer_weights is None else customer_weights[self._ranked_customers])

    def totals(self, customer_weights: Floats | None = None) -> dict[str, float]:
        """Sums over all customers: `pairs`, `positives`, confusion counts, `contacts`, `conversions` and the like."""
        names, matrix = self._sums
        total = matrix.sum(axis=1) if customer_weights is None else (matrix * customer_weights).sum(axis=1)
        return dict(zip(names, total.tolist(), strict=True))

    def measure(self, customer_weights: Floats | None = None, metrics: Iterable[str] | None = None) -> dict[str, float]:
        """All metrics, or those that are named, under a weight a customer (a count of how often each was drawn).

        A metric that is not defined for these pairs (ROC AUC with one class, say) is NaN.
        """
        chosen = tuple(METRICS if metrics is None else metrics)
        values = _from_sums({name: np.float64(total) for name, total in self.totals(customer_weights).items()}, self)
        if not RANKED.isdisjoint(chosen) or "ece" in chosen:
            weighed = self.weigh(customer_weights)
            values |= _ranked(weighed.roc_auc(), weighed.average_precision(), values["base_rate"])
            values["ece"] = calibration_error(weighed.calibration(self.settings.calibration_bins))
        return {name: float(values[name]) for name in chosen}

    def measure_many(self, customer_weights: Floats, metrics: Iterable[str] | None = None) -> dict[str, Floats]:
        """`measure` of many weightings at a time, a hundredth of the work for each.

        Args:
            customer_weights: whole numbers, shape (customers, draws).
            metrics: names; none: all.

        Returns:
            Arrays of shape (draws,) by name.
        """
        chosen = tuple(METRICS if metrics is None else metrics)
        names, matrix = self._sums
        # einsum adds by itself; a product by BLAS would start threads, whose number can change the last bit
        totals = np.einsum("kc,cd->kd", matrix, customer_weights)
        values = _from_sums(dict(zip(names, totals, strict=True)), self)
        if not RANKED.isdisjoint(chosen):
            step = max(1, CHUNK // self._segments.size)
            parts = [
                self._segments.rank(np.ascontiguousarray(customer_weights[:, at : at + step]))
                for at in range(0, customer_weights.shape[1], step)
            ]
            roc_auc, precision = (np.concatenate(part) for part in zip(*parts, strict=True))
            values |= _ranked(roc_auc, precision, values["base_rate"])
        if "ece" in chosen:
            bins = self.settings.calibration_bins
            values["ece"] = np.array(
                [calibration_error(self.weigh(weights).calibration(bins)) for weights in customer_weights.T]
            )
        return {name: values[name] for name in chosen}


def measure(scores: Scores, settings: EvaluationSettings) -> dict[str, float]:
    """All metrics of a model's scores, without intervals."""
    return Panel(scores, settings).measure()


def _sums(codes: npt.NDArray[np.intp], scores: Scores, settings: EvaluationSettings) -> tuple[tuple[str, ...], Floats]:
    """Additive parts of the metrics, one row a part, one column a customer."""
    labels = scores.labels.astype(np.float64)
    probabilities = scores.probabilities
    places = Places.of(codes, probabilities)
    said_yes = (probabilities >= settings.policy.decision_threshold).astype(np.float64)
    contacted = (
        said_yes if settings.policy.rule is ContactRule.THRESHOLD else places.share_in_top(settings.policy.top_k)
    )
    # Clipped as in sklearn.metrics.log_loss: a certain answer that is wrong costs 36 nats, not infinity.
    eps = np.finfo(np.float64).eps
    likelihood = np.clip(np.where(scores.labels == 1, probabilities, 1 - probabilities), eps, 1 - eps)
    parts = {
        "pairs": np.ones(len(labels)),
        "positives": labels,
        "log_loss": -np.log(likelihood),
        "squared_error": (probabilities - labels) ** 2,
        "true_positives": said_yes * labels,
        "said_yes": said_yes,
        "contacts": contacted,
        "conversions": contacted * labels,
        "probability": probabilities,
    }
    count = int(codes.max()) + 1
    rows: dict[str, Floats] = {
        name: np.bincount(codes, weights=values, minlength=count).astype(np.float64) for name, values in parts.items()
    }
    ndcg, recall, positives = ndcg_by_customer(places, scores.labels, TOP)
    rows |= {"customers": np.ones(count), "buyers": (positives > 0).astype(float), "ndcg": ndcg, "list_recall": recall}
    return tuple(rows), np.stack(list(rows.values()))


def _from_sums(total: Mapping[str, Any], panel: Panel) -> dict[str, Any]:
    """Metrics that are ratios of sums; of numbers, or of arrays with a number a draw."""
    policy = panel.settings.policy
    pairs, positives, said_yes, right = (total[key] for key in ("pairs", "positives", "said_yes", "true_positives"))
    profit = policy.margin_per_conversion * total["conversions"] - policy.cost_per_contact * total["contacts"]
    return {
        "base_rate": _ratio(positives, pairs),
        "log_loss": _ratio(total["log_loss"], pairs),
        "brier": _ratio(total["squared_error"], pairs),
        "accuracy": _ratio(pairs - positives - said_yes + 2 * right, pairs),
        "precision": np.where(said_yes > 0, _ratio(right, said_yes), 0.0),
        "recall": _ratio(right, positives),
        "f1": _ratio(2 * right, positives + said_yes),
        "ndcg_at_10": _ratio(total["ndcg"], total["buyers"]),
        "recall_at_10": _ratio(total["list_recall"], total["buyers"]),
        "campaign_profit": 1000 * _ratio(profit, total["customers"]),
    }


def _ranked(roc_auc: Any, average_precision: Any, base_rate: Any) -> dict[str, Any]:
    return {
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "average_precision_lift": _ratio(average_precision, base_rate),
    }


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, np.where(denominator == 0, np.nan, denominator))
