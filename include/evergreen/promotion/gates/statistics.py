"""The statistics that several gates share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from evergreen.evaluation.intervals import Gain, paired_gains
from evergreen.promotion.gates.base import Challenger, Champion, Policy, number


def holm_rejected(p_values: Mapping[str, float], alpha: float) -> list[str]:
    """Hypotheses that Holm's step-down procedure rejects (Holm 1979), smallest p-value first."""
    rejected = []
    for position, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] > alpha / (len(p_values) - position):
            break
        rejected.append(name)
    return rejected


@lru_cache(maxsize=2)
def gains_of(challenger: Challenger, champion: Champion, policy: Policy) -> dict[str, Gain]:
    """Gains over the champion on the guardrail metrics and the campaign's profit, from the same resamples."""
    metrics = tuple(dict.fromkeys((*policy.promotion.guardrails, "campaign_profit")))
    return paired_gains(challenger.scores, champion.scores, policy.evaluation, metrics)


def lower_bound(gain: Gain, looks: int) -> float:
    """A gain is at least so large, with the error of one look spread over `looks` (Bonferroni).

    More than one look need a tail that no bootstrap of some hundred resamples has: there the normal law stands in, with
    the bootstrap's standard error.
    """
    if looks == 1:
        return gain.low
    tail = (1 - gain.confidence) / 2 / looks
    return gain.estimate - NormalDist().inv_cdf(1 - tail) * float(np.std(gain.samples, ddof=1))


def p_value_of_harm(gain: Gain, margin: float) -> float:
    """One-sided p-value of `gain >= -margin`, by the normal law and the bootstrap's standard error."""
    return beyond(-number(gain.estimate, gain.metric) - margin, float(np.std(gain.samples, ddof=1)))


def beyond(excess: float, standard_error: float) -> float:
    """One-sided p-value that the true excess is 0 or less; an excess without any error is certain."""
    if standard_error == 0:
        return 0.0 if excess > 0 else 1.0
    return 0.5 * math.erfc(number(excess / standard_error, "excess / standard error") / math.sqrt(2))
