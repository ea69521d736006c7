"""Bootstrap intervals that resample customers, alone and paired.

One customer's pairs rise and fall together, so pairs are no independent draws: whole customers are drawn with
replacement (cluster bootstrap; Davison & Hinkley 1997, section 3.8). A draw is a count a customer, and every metric is
computed from counts, so that no row is copied, nothing is sorted twice, and hundreds of draws are one product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from evergreen.evaluation.metrics import CHUNK, METRICS, Panel
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import EvaluationSettings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """JSON: `value`, `low`, `high`, with null for NaN."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(part) if np.isfinite(part) else None for name, part in parts.items()}


@dataclass(frozen=True)
class Resampled:
    """A model's metrics, and their values in every resample."""

    estimates: dict[str, float]
    samples: dict[str, Floats]  # each of shape (resamples,)

    def interval(self, metric: str, confidence: float) -> Interval:
        """The percentile interval of one metric."""
        return percentile_interval(self.estimates[metric], self.samples[metric], confidence)

    def intervals(self, confidence: float) -> dict[str, Interval]:
        """The percentile intervals of all metrics."""
        return {metric: self.interval(metric, confidence) for metric in self.estimates}


@dataclass(frozen=True)
class Gain:
    """How much better the challenger is than the champion; positive is better, also where less is better."""

    metric: str
    estimate: float
    samples: Floats  # shape (resamples,)
    confidence: float

    def interval(self, confidence: float | None = None) -> tuple[float, float]:
        """Ends of the percentile interval, by default at the settings' confidence; NaN where it is not defined."""
        interval = percentile_interval(self.estimate, self.samples, confidence or self.confidence)
        return interval.low, interval.high

    @property
    def low(self) -> float:
        """Lower end at the settings' confidence."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """Upper end at the settings' confidence."""
        return self.interval()[1]

    def as_dict(self) -> dict[str, float | None]:
        """JSON: `value`, `low`, `high`, with null for NaN."""
        return Interval(self.estimate, self.low, self.high).as_dict()


def bootstrap(panel: Panel, metrics: Sequence[str] = tuple(METRICS)) -> Resampled:
    """Metrics of a panel, by default all, resampled as its settings say (`resamples`, `seed`)."""
    settings = panel.settings
    parts = [panel.measure_many(weights, metrics) for weights in drawn(len(panel.customers), settings)]
    samples = {metric: np.concatenate([part[metric] for part in parts]) for metric in metrics}
    return Resampled(panel.measure(None, metrics), samples)


def paired_bootstrap(challenger: Scores, champion: Scores, metric: str, settings: EvaluationSettings) -> Gain:
    """The challenger's gain over the champion on one metric; both scored the same pairs.

    Each resample draws the same customers for both, so what they have in common (easy and hard customers) cancels.

    Raises:
        EvaluationError: the two did not score the same pairs in the same order.
    """
    return paired_gains(challenger, champion, settings, (metric,))[metric]


def paired_gains(
    challenger: Scores, champion: Scores, settings: EvaluationSettings, metrics: Sequence[str] = tuple(METRICS)
) -> dict[str, Gain]:
    """`paired_bootstrap` of several metrics from the same resamples.

    Raises:
        EvaluationError: the two did not score the same pairs in the same order.
    """
    challenger.check_same_pairs(champion)
    sign = {name: 1.0 if METRICS[name].higher_is_better else -1.0 for name in metrics}
    new, old = Panel(challenger, settings), Panel(champion, settings)

    ours_now, theirs_now = new.measure(None, metrics), old.measure(None, metrics)
    parts: dict[str, list[Floats]] = {name: [] for name in metrics}
    for weights in drawn(len(new.customers), settings):
        ours, theirs = new.measure_many(weights, metrics), old.measure_many(weights, metrics)
        for name in metrics:
            parts[name].append(ours[name] - theirs[name])
    return {
        name: Gain(
            name,
            sign[name] * (ours_now[name] - theirs_now[name]),
            sign[name] * np.concatenate(parts[name]),
            settings.confidence,
        )
        for name in metrics
    }


def percentile_interval(estimate: float, samples: Floats, confidence: float) -> Interval:
    """The middle `confidence` of the samples, widened where needed to hold the estimate itself.

    Widening matters for the calibration error alone: it is a sum of absolute gaps, to which every resample adds noise,
    so that all resamples of a well calibrated model may lie above the estimate. NaN if more than a tenth of the
    resamples have no value: so rare a class allows no interval.
    """
    finite = samples[np.isfinite(samples)]
    if not np.isfinite(estimate) or len(finite) < 0.9 * len(samples):
        return Interval(estimate, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def draws(customers: int, settings: EvaluationSettings) -> Iterator[Floats]:
    """How often each customer is drawn, a resample at a time; the same sequence for the same number of customers."""
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.resamples):
        drawn = rng.integers(0, customers, size=customers)
        yield np.bincount(drawn, minlength=customers).astype(np.float64)


def drawn(customers: int, settings: EvaluationSettings) -> Iterator[Floats]:
    """The same draws, some hundred at a time: shape (customers, draws)."""
    rest = draws(customers, settings)
    while some := list(islice(rest, max(1, CHUNK // customers))):
        yield np.stack(some, axis=1)
