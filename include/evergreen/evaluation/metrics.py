"""The metrics of every table, gate and report, computed from per-customer sums and one presorted ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.evaluation.places import Places, ndcg_by_customer
from evergreen.evaluation.ranking import Ranking, Segments, WeighedRanking, calibration_error
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import ContactRule, EvaluationSettings, PolicySettings

Floats = npt.NDArray[np.float64]
Sums = dict[str, Floats]  # by name, one number a customer


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
BY_RANK = frozenset({"roc_auc", "average_precision", "ece"})  # made from the ranking alone
BY_LIST = frozenset({"ndcg_at_10", "recall_at_10"})
BY_PRECISION = frozenset({"average_precision", "average_precision_lift"})
CHUNK = 4_000_000  # numbers of the weights that are drawn at a time
RANKED_CHUNK = 1_000_000  # numbers that a step of ranking holds: more leave the processor's cache (twice as slow)


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

    @cached_property
    def _places(self) -> Places:
        return Places.of(self._codes, self._scores.probabilities)

    @cached_property
    def _pairwise(self) -> Sums:
        """Sums over each customer's pairs."""
        labels, probabilities = self._scores.labels.astype(np.float64), self._scores.probabilities
        policy = self.settings.policy
        said_yes = (probabilities >= policy.decision_threshold).astype(np.float64)
        contacted = said_yes if policy.rule is ContactRule.THRESHOLD else self._places.share_in_top(policy.top_k)
        # Clipped as in sklearn.metrics.log_loss: a certain answer that is wrong costs 36 nats, not infinity.
        eps = np.finfo(np.float64).eps
        likelihood = np.clip(np.where(self._scores.labels == 1, probabilities, 1 - probabilities), eps, 1 - eps)
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
        count = len(self.customers)
        sums = {name: np.bincount(self._codes, weights=values, minlength=count) for name, values in parts.items()}
        return {"customers": np.ones(count), **{name: values.astype(np.float64) for name, values in sums.items()}}

    @cached_property
    def _listwise(self) -> Sums:
        """What each customer's list is worth."""
        ndcg, recall, positives = ndcg_by_customer(self._places, self._scores.labels, TOP)
        return {"buyers": (positives > 0).astype(float), "ndcg": ndcg, "list_recall": recall}

    def _sums(self, metrics: Iterable[str]) -> Sums:
        """What these metrics are made from; places in lists are worked out only where one of them needs that."""
        chosen = set(metrics)
        sums: Sums = {} if chosen <= BY_RANK else dict(self._pairwise)
        return sums | self._listwise if chosen & BY_LIST else sums

    def weigh(self, customer_weights: Floats | None = None) -> WeighedRanking:
        """The ranking under a weight a customer, in the order of `customers`; none: all 1."""
        return self.ranking.weigh(None if customer_weights is None else customer_weights[self._ranked_customers])

    def totals(self, customer_weights: Floats | None = None) -> dict[str, float]:
        """Sums over all customers: `pairs`, `positives`, confusion counts, `contacts`, `conversions` and the like."""
        weights = np.ones(len(self.customers)) if customer_weights is None else customer_weights
        return {name: float((values * weights).sum()) for name, values in self._sums(METRICS).items()}

    def measure(self, customer_weights: Floats | None = None, metrics: Iterable[str] | None = None) -> dict[str, float]:
        """All metrics, or those that are named, under a weight a customer (a count of how often each was drawn).

        A metric that is not defined for these pairs (ROC AUC with one class, say) is NaN.
        """
        chosen = tuple(METRICS if metrics is None else metrics)
        weights = np.ones(len(self.customers)) if customer_weights is None else customer_weights
        totals: dict[str, Any] = {name: (values * weights).sum() for name, values in self._sums(chosen).items()}
        if not RANKED.isdisjoint(chosen) or "ece" in chosen:
            weighed = self.weigh(customer_weights)
            totals["roc_auc"], totals["average_precision"] = weighed.roc_auc(), weighed.average_precision()
            totals["ece"] = calibration_error(weighed.calibration(self.settings.calibration_bins))
        return {name: float(FORMULAS[name](totals, self.settings.policy)) for name in chosen}

    def measure_many(self, customer_weights: Floats, metrics: Iterable[str] | None = None) -> dict[str, Floats]:
        """`measure` of many weightings at a time, a hundredth of the work for each.

        Args:
            customer_weights: whole numbers, shape (customers, draws).
            metrics: names; none: all.

        Returns:
            Arrays of shape (draws,) by name.
        """
        chosen = tuple(METRICS if metrics is None else metrics)
        sums = self._sums(chosen)
        # einsum adds by itself; a product by BLAS would start threads, whose number can change the last bit
        totals: dict[str, Any] = {name: np.einsum("c,cd->d", values, customer_weights) for name, values in sums.items()}
        if not RANKED.isdisjoint(chosen):
            ranked = {"roc_auc"}.intersection(chosen) | ({"average_precision"} if BY_PRECISION & set(chosen) else set())
            step = max(1, RANKED_CHUNK // self._segments.size)
            parts = [
                self._segments.rank(np.ascontiguousarray(customer_weights[:, at : at + step]), ranked)
                for at in range(0, customer_weights.shape[1], step)
            ]
            totals |= {name: np.concatenate([part[name] for part in parts]) for name in ranked}
        if "ece" in chosen:
            bins = self.settings.calibration_bins
            totals["ece"] = np.array(
                [calibration_error(self.weigh(weights).calibration(bins)) for weights in customer_weights.T]
            )
        return {name: FORMULAS[name](totals, self.settings.policy) for name in chosen}


def measure(scores: Scores, settings: EvaluationSettings) -> dict[str, float]:
    """All metrics of a model's scores, without intervals."""
    return Panel(scores, settings).measure()


def _profit(total: Mapping[str, Any], policy: PolicySettings) -> Any:
    profit = policy.margin_per_conversion * total["conversions"] - policy.cost_per_contact * total["contacts"]
    return 1000 * _ratio(profit, total["customers"])


def _lift(total: Mapping[str, Any], _policy: PolicySettings) -> Any:
    return _ratio(total["average_precision"], _ratio(total["positives"], total["pairs"]))


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, np.where(denominator == 0, np.nan, denominator))


FORMULAS: dict[str, Callable[[Mapping[str, Any], PolicySettings], Any]] = {
    "roc_auc": lambda total, _: total["roc_auc"],
    "average_precision": lambda total, _: total["average_precision"],
    "average_precision_lift": _lift,
    "log_loss": lambda total, _: _ratio(total["log_loss"], total["pairs"]),
    "brier": lambda total, _: _ratio(total["squared_error"], total["pairs"]),
    "ece": lambda total, _: total["ece"],
    "accuracy": lambda total, _: _ratio(
        total["pairs"] - total["positives"] - total["said_yes"] + 2 * total["true_positives"], total["pairs"]
    ),
    "precision": lambda total, _: np.where(
        total["said_yes"] > 0, _ratio(total["true_positives"], total["said_yes"]), 0.0
    ),
    "recall": lambda total, _: _ratio(total["true_positives"], total["positives"]),
    "f1": lambda total, _: _ratio(2 * total["true_positives"], total["positives"] + total["said_yes"]),
    "ndcg_at_10": lambda total, _: _ratio(total["ndcg"], total["buyers"]),
    "recall_at_10": lambda total, _: _ratio(total["list_recall"], total["buyers"]),
    "campaign_profit": _profit,
}
"""Each metric from sums over customers and, where they are ranked, from the ranking; numbers, or one a draw."""
