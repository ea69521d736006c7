"""The metrics of every table, gate and report, computed from per-customer sums and one presorted ranking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.evaluation.places import Places, ndcg_by_customer
from evergreen.evaluation.ranking import Ranking, WeighedRanking, calibration_error
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
RANKED = frozenset({"roc_auc", "average_precision", "average_precision_lift", "ece"})


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
        self.ranking = Ranking(scores.labels, scores.probabilities)
        self._ranked_customers = codes[self.ranking.order].astype(np.intp)
        self._sums = _sums(codes.astype(np.intp), scores, settings)

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
        values = _from_sums(self.totals(customer_weights), self.settings)
        if RANKED.intersection(chosen):
            weighed = self.weigh(customer_weights)
            values["roc_auc"] = weighed.roc_auc()
            values["average_precision"] = weighed.average_precision()
            values["average_precision_lift"] = _ratio(values["average_precision"], values["base_rate"])
            values["ece"] = calibration_error(weighed.calibration(self.settings.calibration_bins))
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


def _from_sums(total: dict[str, float], settings: EvaluationSettings) -> dict[str, float]:
    policy = settings.policy
    pairs, positives, said_yes, right = (total[key] for key in ("pairs", "positives", "said_yes", "true_positives"))
    profit = policy.margin_per_conversion * total["conversions"] - policy.cost_per_contact * total["contacts"]
    return {
        "base_rate": _ratio(positives, pairs),
        "log_loss": _ratio(total["log_loss"], pairs),
        "brier": _ratio(total["squared_error"], pairs),
        "accuracy": _ratio(pairs - positives - said_yes + 2 * right, pairs),
        "precision": right / said_yes if said_yes else 0.0,
        "recall": _ratio(right, positives),
        "f1": _ratio(2 * right, positives + said_yes),
        "ndcg_at_10": _ratio(total["ndcg"], total["buyers"]),
        "recall_at_10": _ratio(total["list_recall"], total["buyers"]),
        "campaign_profit": 1000 * _ratio(profit, total["customers"]),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
