"""Gates that compare with the champion, and the one that stands in for them where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from evergreen.evaluation.intervals import paired_gains
from evergreen.evaluation.slices import sizeable_slices
from evergreen.promotion.gates.base import (
    Challenger,
    Champion,
    GateResult,
    MissingEvidenceError,
    Policy,
    Status,
    decided,
    gain_figures,
    number,
    shown,
)
from evergreen.promotion.gates.statistics import gains_of, holm_rejected, lower_bound, p_value_of_harm


def no_champion(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Cold start: a fact of the ledger, not of a champion that could not be scored.

    Where the champion needs a feature that is gone, `settings.promotion.replace_unscorable` says if that is enough.
    """
    observed = {"generation": challenger.generation, "problem": challenger.champion_problem}
    if not challenger.generation:
        reason = "there is no champion yet: what it is by itself decides alone"
        return GateResult("no_champion", Status.PASSED, observed, 0, reason)
    problem = challenger.champion_problem or "nobody tried"
    reason = f"the champion of generation {challenger.generation} could not be scored on this holdout: {problem}"
    if challenger.champion_problem and policy.promotion.replace_unscorable:
        return GateResult("no_champion", Status.PASSED, observed, 0, f"{reason}. It is replaced without a comparison")
    return GateResult("no_champion", Status.FAILED, observed, 0, reason)


def identity(challenger: Challenger, champion: Champion, _policy: Policy) -> GateResult:
    """Is it another model at all?"""
    observed = {
        "same_bundle": challenger.bundle_digest == champion.bundle_digest,
        "same_scores": bool(np.array_equal(challenger.scores.probabilities, champion.scores.probabilities)),
    }
    same = [
        f"it has the {what}" for what, is_same in zip(("bundle", "scores"), observed.values(), strict=True) if is_same
    ]
    reasons = [f"{' and '.join(same)} of the champion (version {champion.version})"] if same else []
    return decided("identity", observed, {"same_bundle": False, "same_scores": False}, [], reasons)


def not_older(challenger: Challenger, champion: Champion, _policy: Policy) -> GateResult:
    """Are its data as new as the champion's?"""
    reasons = []
    if challenger.data_day < champion.data_day:
        reasons.append(f"its data end on {challenger.data_day}, the champion's on {champion.data_day}")
    return decided("not_older", challenger.data_day, champion.data_day, reasons)


def superiority(challenger: Challenger, champion: Champion, policy: Policy) -> GateResult:
    """Is it better on the primary metric? Not asked where the champion is due for a refresh.

    The champion was scored on the same pairs, and customers are resampled for both alike. Every day asks anew about
    nearly the same holdout: with the usual bound a champion would fall to one of thirty equals far too often, so the
    bound is that of `looks` questions (`settings.promotion.looks`).
    """
    metric, least = policy.promotion.primary_metric, policy.promotion.min_gain
    gain = gains_of(challenger, champion, policy)[metric]
    observed = gain_figures(gain) | {"bound": number(lower_bound(gain, policy.promotion.looks), metric)}
    limit = {"gain_above": least, "looks": policy.promotion.looks}
    age = (challenger.data_day - champion.data_day).days
    said = f"{metric} gains {shown(observed)}"
    if age >= policy.promotion.refresh_after_days:
        reason = f"the champion's data are {age} days older: not being worse suffices ({said})"
        return GateResult("superiority", Status.PASSED, observed, limit, reason)
    failed = [f"{said}, not above {least:g}"] if observed["high"] < least else []
    inconclusive = []
    if observed["bound"] <= least:
        inconclusive.append(
            f"{said}, beyond doubt {observed['bound']:.4f}: the holdout cannot tell whether that is above {least:g}"
        )
    return decided("superiority", observed, limit, failed, inconclusive)


def non_inferiority(challenger: Challenger, champion: Champion, policy: Policy) -> GateResult:
    """Is it nowhere worse than the champion by more than the margin? All guardrail metrics must hold."""
    gains = gains_of(challenger, champion, policy)
    observed, failed, inconclusive = {}, [], []
    for metric, margin in policy.promotion.guardrails.items():
        gain = observed[metric] = gain_figures(gains[metric])
        said = f"{metric} gains {shown(gain)}, margin {margin:g}"
        if gain["high"] < -margin:
            failed.append(f"worse than the champion: {said}")
        elif gain["low"] < -margin:
            inconclusive.append(f"maybe worse than the champion: {said}")
    return decided("non_inferiority", observed, dict(policy.promotion.guardrails), failed, inconclusive)


def slice_harm(challenger: Challenger, champion: Champion, policy: Policy) -> GateResult:
    """Does any slice of sufficient size suffer beyond the margin, or might it suffer badly?

    Fails by one-sided tests of `gain < -margin` with the bootstrap's standard error, corrected for the number of slices
    (step-down; Holm 1979), so that a harmless candidate is called harmful with probability alpha at most. A small slice
    can suffer much before such a test notices: so the worst losses must also be ruled out by their intervals.
    """
    harm = policy.promotion.harm
    if not challenger.scores.slices:
        raise MissingEvidenceError("slices of the holdout")
    challenger.scores.check_same_pairs(champion.scores)
    tests: dict[str, float] = {}
    observed: dict[str, Any] = {}
    doubts = []
    for part in sizeable_slices(challenger.scores, policy.evaluation.slices):
        ours, theirs = challenger.scores.take(part.rows), champion.scores.take(part.rows)
        gains = paired_gains(ours, theirs, policy.evaluation, tuple({harm.metric: 0.0, **harm.worst}))
        name = f"{part.dimension}={part.label}"
        tests[name] = p_value_of_harm(gains[harm.metric], harm.margin)
        observed[name] = {**gain_figures(gains[harm.metric]), "p_value": tests[name]}
        for metric, loss in harm.worst.items():
            gain = observed[name][metric] = gain_figures(gains[metric])
            if gain["low"] < -loss:
                doubts.append(f"{metric} of {name} gains {shown(gain)}: a loss of {loss:g} cannot be ruled out")
    reasons = [
        f"{harm.metric} of {name} gains {shown(observed[name])}: harm, p = {tests[name]:.2g} of {len(tests)} tests"
        for name in holm_rejected(tests, harm.alpha)
    ]
    return decided("slice_harm", observed, harm.model_dump(mode="json"), reasons, doubts)
