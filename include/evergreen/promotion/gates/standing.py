"""Gates on how good a candidate is by itself: floors, heuristics, calibration, profit, fairness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergreen.evaluation.metrics import METRICS
from evergreen.promotion.gates.base import (
    Challenger,
    Champion,
    GateResult,
    MissingEvidenceError,
    Policy,
    Status,
    decided,
    figures,
    gain_figures,
    number,
    shown,
)
from evergreen.promotion.gates.statistics import beyond, gains_of, holm_rejected

PROFIT = "campaign_profit"


def readiness_floors(challenger: Challenger, _champion: Champion | None, _policy: Policy) -> GateResult:
    """Does it reach the floors of the readiness table?"""
    rows = challenger.evaluation["readiness"]["rows"]
    if not rows:
        raise MissingEvidenceError("rows of the readiness table")
    observed = {row["name"]: row["observed"] for row in rows}
    limits = {row["name"]: row["limit"] for row in rows}
    short = {
        status: [f"{row['name']} is {row['observed']}, limit {row['limit']}" for row in rows if row["status"] == status]
        for status in (Status.FAILED, Status.INCONCLUSIVE)
    }
    unknown = [row["name"] for row in rows if row["status"] not in set(Status)]
    if unknown:
        raise MissingEvidenceError(f"status of {unknown[0]}")
    return decided("readiness_floors", observed, limits, short[Status.FAILED], short[Status.INCONCLUSIVE])


def heuristics(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Does it beat the best heuristic on the same pairs, with intervals that do not overlap?"""
    rivals = challenger.evaluation["heuristics"]
    if not rivals:
        raise MissingEvidenceError("scores of the heuristics")
    observed, limits = {}, {}
    failed, inconclusive = [], []
    for metric in policy.promotion.heuristic_metrics:
        ours = figures(challenger.evaluation["metrics"], metric)
        theirs = {name: figures(metrics, metric) for name, metrics in rivals.items()}
        sign = 1 if METRICS[metric].higher_is_better else -1
        best = _best(theirs, sign)
        observed[metric], limits[metric] = ours, {"best": best, **theirs[best]}
        said = f"{metric} {shown(ours)} against {best} {shown(theirs[best])}"
        if sign * (ours["value"] - theirs[best]["value"]) <= 0:
            failed.append(f"it is not better than a heuristic: {said}")
        elif not _apart(ours, theirs[best], sign):
            inconclusive.append(f"the intervals overlap: {said}")
    return decided("heuristics", observed, limits, failed, inconclusive)


def calibration(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Do probabilities mean frequencies, in the large and bin by bin?"""
    limits = policy.promotion.calibration
    base_rate = number(challenger.evaluation["base_rate"], "base_rate")
    if base_rate <= 0:
        raise MissingEvidenceError("repurchases in the holdout")
    ratio = number(challenger.evaluation["mean_probability"], "mean_probability") / base_rate
    ece_share = figures(challenger.evaluation["metrics"], "ece")["value"] / base_rate
    reasons = []
    if not 1 / limits.max_ratio <= ratio <= limits.max_ratio:
        reasons.append(
            f"mean probability is {ratio:.2f} times the base rate, must be {1 / limits.max_ratio:.2f} to "
            f"{limits.max_ratio:.2f} times"
        )
    if ece_share > limits.max_ece_share:
        reasons.append(f"ECE is {ece_share:.2f} times the base rate, at most {limits.max_ece_share:g} is allowed")
    observed = {"ratio": ratio, "ece_share": ece_share}
    return decided("calibration", observed, limits.model_dump(), reasons)


def campaign_profit(challenger: Challenger, champion: Champion | None, policy: Policy) -> GateResult:
    """Does the campaign that would follow its probabilities pay for itself, and about as well as the champion's?"""
    limits = policy.promotion.profit
    ours = figures(challenger.evaluation["metrics"], PROFIT)
    failed, inconclusive = [], []
    if ours["value"] < limits.min_profit:
        failed.append(f"the campaign earns {shown(ours)} per 1,000 customers, at least {limits.min_profit:g} is asked")
    elif ours["low"] < limits.min_profit:
        inconclusive.append(f"the campaign may earn less than {limits.min_profit:g} per 1,000 customers: {shown(ours)}")
    observed: dict[str, Any] = {"profit": ours}
    limit: dict[str, Any] = {"profit": limits.min_profit}
    if champion is not None:
        gain = gain_figures(gains_of(challenger, champion, policy)[PROFIT])
        margin = limits.max_loss_share * abs(ours["value"] - gain["value"])
        observed["gain"], limit["gain"] = gain, -margin
        said = f"campaign profit gains {shown(gain)} on the champion's, margin {margin:.4g}"
        if gain["high"] < -margin:
            failed.append(f"less profit than the champion: {said}")
        elif gain["low"] < -margin:
            inconclusive.append(f"maybe less profit than the champion: {said}")
    return decided("campaign_profit", observed, limit, failed, inconclusive)


def fairness(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Are the gaps between each slice and the others within limits?

    Fails where a gap lies beyond its limit so clearly that chance does not explain it: one-sided tests of
    `|gap| > limit` with the bootstrap's standard error, corrected for the number of slices (Holm 1979).
    """
    limits = policy.evaluation.fairness
    rows = challenger.fairness["rows"]
    tests: dict[str, float] = {}
    observed: dict[str, Any] = {}
    for row in rows:
        metric = str(row["metric"])
        gap, error = number(row["gap"], f"gap of {metric}"), number(row["standard_error"], "standard_error")
        name = f"{metric} of {row['dimension']}={row['slice']}"
        tests[name] = beyond(abs(gap) - limits.max_gap[metric], error)
        observed[name] = {"gap": gap, "p_value": tests[name]}
    reasons = [
        f"{name} lies {observed[name]['gap']:+.3f} from that of all others, p = {tests[name]:.2g} of {len(tests)} tests"
        for name in holm_rejected(tests, limits.alpha)
    ]
    return decided("fairness", observed, {"max_gap": dict(limits.max_gap), "alpha": limits.alpha}, reasons)


def _best(metrics: Mapping[str, Mapping[str, float]], sign: int) -> str:
    return max(metrics, key=lambda name: sign * metrics[name]["value"])


def _apart(ours: Mapping[str, float], theirs: Mapping[str, float], sign: int) -> bool:
    return ours["low"] > theirs["high"] if sign > 0 else ours["high"] < theirs["low"]
