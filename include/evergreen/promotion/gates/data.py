"""Gates on what a candidate was made from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from evergreen.promotion.gates.base import (
    Challenger,
    Champion,
    GateResult,
    MissingEvidenceError,
    Policy,
    decided,
    figures,
    number,
)


def data_quality(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Was every suite run on the data, and did none fail?"""
    observed = {suite: _succeeded(summary) for suite, summary in challenger.quality.items()}
    missing = sorted(policy.suites - observed.keys())
    failed = sorted(suite for suite, success in observed.items() if not success)
    reasons = [f"there is no report of suite {suite}" for suite in missing]
    reasons += [f"suite {suite} failed" for suite in failed]
    return decided("data_quality", observed, sorted(policy.suites), reasons)


def label_maturity(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Do all label windows lie in ingested days, and those of training before the holdout?"""
    horizon = timedelta(days=policy.horizon_days)
    if not challenger.as_ofs:
        raise MissingEvidenceError("training as_ofs")
    complete = challenger.newest_day + timedelta(days=1)
    newest = max(challenger.as_ofs)
    reasons = []
    if challenger.holdout + horizon > complete:
        reasons.append(f"labels as of {challenger.holdout} end after {challenger.newest_day}, the newest ingested day")
    if newest + horizon > challenger.holdout:
        reasons.append(f"training labels as of {newest} reach into the holdout, which begins {challenger.holdout}")
    observed = {
        "newest_ingested_day": challenger.newest_day,
        "holdout": challenger.holdout,
        "newest_training_as_of": newest,
    }
    return decided("label_maturity", observed, {"horizon_days": policy.horizon_days}, reasons)


def not_barred(challenger: Challenger, _champion: Champion | None, _policy: Policy) -> GateResult:
    """Was the version, or its very bundle, rolled back before?"""
    reasons = [f"it was rolled back: {challenger.barred}"] if challenger.barred else []
    return decided("not_barred", challenger.barred, "", reasons)


def leakage(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Is it too good to be true?"""
    limits = {
        "roc_auc": policy.promotion.leakage.max_roc_auc,
        "average_precision": policy.promotion.leakage.max_average_precision,
    }
    observed = {metric: figures(challenger.evaluation["metrics"], metric)["value"] for metric in limits}
    reasons = [
        f"{metric} is {observed[metric]:.4f}, above {limit:g}: a feature probably knows the label"
        for metric, limit in limits.items()
        if observed[metric] > limit
    ]
    return decided("leakage", observed, limits, reasons)


def drift(challenger: Challenger, _champion: Champion | None, _policy: Policy) -> GateResult:
    """Do the holdout's features and predictions still look like those that the challenger was trained on?

    The reference moves along with training. The champion's would not: the longer a drifted champion stayed, the less
    could any candidate replace it, although a newer model is the cure.
    """
    verdict = challenger.drift["verdict"]
    if verdict not in ("stable", "drifted"):
        raise MissingEvidenceError(f"drift verdict is {verdict!r}, must be 'stable' or 'drifted'")
    observed = {"verdict": verdict, "share_drifted": number(challenger.drift["share_drifted"], "share_drifted")}
    reasons = [challenger.drift["reason"] or "the data drifted"] if verdict == "drifted" else []
    return decided("drift", observed, "stable", reasons)


def poisoning(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Do the training set's labels agree with its own later features, and is nobody in it twice?"""
    limits = policy.evaluation.poisoning
    labels, twins = challenger.poisoning["labels"], challenger.poisoning["twins"]
    checked = number(labels["checked_share"], "labels.checked_share")
    contradicted = number(labels["contradicted_share"], "labels.contradicted_share")
    copied = number(twins["share"], "twins.share")
    reasons = []
    if checked < limits.min_checked_share:
        reasons.append(f"only {checked:.1%} of the labels can be checked against later features")
    if contradicted > limits.max_contradicted_share:
        reasons.append(
            f"{contradicted:.2%} of the labels contradict what the customers bought by the features as of later"
        )
    if copied > limits.max_twin_share:
        reasons.append(f"{copied:.2%} of the customers have the purchases of another customer: duplicated customers")
    observed = {"labels_checked": checked, "labels_contradicted": contradicted, "twins": copied}
    bounds = {
        "labels_checked": limits.min_checked_share,
        "labels_contradicted": limits.max_contradicted_share,
        "twins": limits.max_twin_share,
    }
    return decided("poisoning", observed, bounds, reasons)


def _succeeded(summary: Mapping[str, Any]) -> bool:
    success = summary["success"]
    if not isinstance(success, bool):
        raise MissingEvidenceError("outcome of a quality report")
    return success
