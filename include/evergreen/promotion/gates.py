"""Gates: pure functions of (challenger, champion, policy). What is missing fails; what cannot be told says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np

from evergreen.errors import EvaluationError
from evergreen.evaluation.intervals import Gain, paired_gains
from evergreen.evaluation.metrics import METRICS
from evergreen.evaluation.scores import Scores
from evergreen.evaluation.slices import sizeable_slices
from evergreen.settings.evaluation import EvaluationSettings
from evergreen.settings.promotion import PromotionSettings


class Status(StrEnum):
    """Outcome of a gate."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Decision(StrEnum):
    """Outcome of all gates together."""

    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class GateResult:
    """What a gate saw, what it allows, and why that is not enough (or why it is)."""

    name: str
    status: Status
    observed: Any
    limit: Any
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the evidence."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Challenger:
    """A candidate with all that was found out about it."""

    version: str
    bundle_digest: str
    data_day: date
    newest_day: date  # newest ingested day
    holdout: date
    as_ofs: tuple[date, ...]
    scores: Scores  # on the holdout
    evaluation: Mapping[str, Any]  # of `evergreen.evaluation.report.evaluate`
    quality: Mapping[str, Mapping[str, Any]]  # suite -> summary of its report
    drift: Mapping[str, Any]  # `evergreen.evaluation.drift.drift_verdict` of its training data and the holdout
    generation: int  # of the champion, as the ledger has it; 0 before the first
    barred: str = ""  # why it was rolled back; empty where it was not
    champion_problem: str = ""  # why the champion could not be scored on the holdout; empty where it was


@dataclass(frozen=True, eq=False)
class Champion:
    """The champion, scored anew on the challenger's holdout."""

    version: str
    bundle_digest: str
    data_day: date
    scores: Scores


@dataclass(frozen=True, eq=False)
class Policy:
    """What the gates go by."""

    promotion: PromotionSettings
    evaluation: EvaluationSettings
    horizon_days: int
    suites: frozenset[str] = field(default=frozenset({"transactions", "features", "training_set"}))


@dataclass(frozen=True)
class Verdict:
    """All results, what they come to, and why in words."""

    decision: Decision
    reasons: tuple[str, ...]
    results: tuple[GateResult, ...]


Gate = Callable[[Challenger, Champion | None, Policy], GateResult]


class MissingEvidenceError(Exception):
    """A figure that a gate needs is not there, or is no number."""


def data_quality(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Was every suite run on the data, and did none fail?"""
    observed = {suite: _succeeded(summary) for suite, summary in challenger.quality.items()}
    missing = sorted(policy.suites - observed.keys())
    failed = sorted(suite for suite, success in observed.items() if not success)
    reasons = [f"there is no report of suite {suite}" for suite in missing]
    reasons += [f"suite {suite} failed" for suite in failed]
    return _decided("data_quality", observed, sorted(policy.suites), reasons)


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
    return _decided("label_maturity", observed, {"horizon_days": policy.horizon_days}, reasons)


def not_barred(challenger: Challenger, _champion: Champion | None, _policy: Policy) -> GateResult:
    """Was the version, or its very bundle, rolled back before?"""
    reasons = [f"it was rolled back: {challenger.barred}"] if challenger.barred else []
    return _decided("not_barred", challenger.barred, "", reasons)


def leakage(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Is it too good to be true?"""
    limits = {
        "roc_auc": policy.promotion.leakage.max_roc_auc,
        "average_precision": policy.promotion.leakage.max_average_precision,
    }
    observed = {metric: _figures(challenger.evaluation["metrics"], metric)["value"] for metric in limits}
    reasons = [
        f"{metric} is {observed[metric]:.4f}, above {limit:g}: a feature probably knows the label"
        for metric, limit in limits.items()
        if observed[metric] > limit
    ]
    return _decided("leakage", observed, limits, reasons)


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
    return _decided("readiness_floors", observed, limits, short[Status.FAILED], short[Status.INCONCLUSIVE])


def heuristics(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Does it beat the best heuristic on the same pairs, with intervals that do not overlap?"""
    rivals = challenger.evaluation["heuristics"]
    if not rivals:
        raise MissingEvidenceError("scores of the heuristics")
    observed, limits = {}, {}
    failed, inconclusive = [], []
    for metric in policy.promotion.heuristic_metrics:
        ours = _figures(challenger.evaluation["metrics"], metric)
        theirs = {name: _figures(metrics, metric) for name, metrics in rivals.items()}
        sign = 1 if METRICS[metric].higher_is_better else -1
        best = _best(theirs, sign)
        observed[metric], limits[metric] = ours, {"best": best, **theirs[best]}
        said = f"{metric} {_range(ours)} against {best} {_range(theirs[best])}"
        if sign * (ours["value"] - theirs[best]["value"]) <= 0:
            failed.append(f"it is not better than a heuristic: {said}")
        elif not _apart(ours, theirs[best], sign):
            inconclusive.append(f"the intervals overlap: {said}")
    return _decided("heuristics", observed, limits, failed, inconclusive)


def calibration(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Do probabilities mean frequencies, in the large and bin by bin?"""
    limits = policy.promotion.calibration
    base_rate = _number(challenger.evaluation["base_rate"], "base_rate")
    if base_rate <= 0:
        raise MissingEvidenceError("repurchases in the holdout")
    ratio = _number(challenger.evaluation["mean_probability"], "mean_probability") / base_rate
    ece_share = _figures(challenger.evaluation["metrics"], "ece")["value"] / base_rate
    reasons = []
    if not 1 / limits.max_ratio <= ratio <= limits.max_ratio:
        reasons.append(
            f"mean probability is {ratio:.2f} times the base rate, must be {1 / limits.max_ratio:.2f} to "
            f"{limits.max_ratio:.2f} times"
        )
    if ece_share > limits.max_ece_share:
        reasons.append(f"ECE is {ece_share:.2f} times the base rate, at most {limits.max_ece_share:g} is allowed")
    observed = {"ratio": ratio, "ece_share": ece_share}
    return _decided("calibration", observed, limits.model_dump(), reasons)


def drift(challenger: Challenger, _champion: Champion | None, _policy: Policy) -> GateResult:
    """Do the holdout's features and predictions still look like those that the challenger was trained on?

    The reference moves along with training. The champion's would not: the longer a drifted champion stayed, the less
    could any candidate replace it, although a newer model is the cure.
    """
    verdict = challenger.drift["verdict"]
    if verdict not in ("stable", "drifted"):
        raise MissingEvidenceError(f"drift verdict is {verdict!r}, must be 'stable' or 'drifted'")
    observed = {"verdict": verdict, "share_drifted": _number(challenger.drift["share_drifted"], "share_drifted")}
    reasons = [challenger.drift["reason"] or "the data drifted"] if verdict == "drifted" else []
    return _decided("drift", observed, "stable", reasons)


def no_champion(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Cold start: a fact of the ledger, not of a champion that could not be scored.

    Where the champion needs a feature that is gone, `settings.promotion.replace_unscorable` says if that is enough.
    """
    observed = {"generation": challenger.generation, "problem": challenger.champion_problem}
    if not challenger.generation:
        reason = "there is no champion yet: floors, heuristics and calibration alone decide"
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
    return _decided("identity", observed, {"same_bundle": False, "same_scores": False}, [], reasons)


def not_older(challenger: Challenger, champion: Champion, _policy: Policy) -> GateResult:
    """Are its data as new as the champion's?"""
    reasons = []
    if challenger.data_day < champion.data_day:
        reasons.append(f"its data end on {challenger.data_day}, the champion's on {champion.data_day}")
    return _decided("not_older", challenger.data_day, champion.data_day, reasons)


def superiority(challenger: Challenger, champion: Champion, policy: Policy) -> GateResult:
    """Is it better on the primary metric? Not asked where the champion is due for a refresh.

    The champion was scored on the same pairs, and customers are resampled for both alike.
    """
    metric, least = policy.promotion.primary_metric, policy.promotion.min_gain
    gain = _gains(challenger, champion, policy)[metric]
    observed, limit = _gain_figures(gain), {"gain_above": least}
    age = (challenger.data_day - champion.data_day).days
    said = f"{metric} gains {_range(observed)}"
    if age >= policy.promotion.refresh_after_days:
        reason = f"the champion's data are {age} days older: not being worse suffices ({said})"
        return GateResult("superiority", Status.PASSED, observed, limit, reason)
    failed = [f"{said}, not above {least:g}"] if observed["high"] < least else []
    inconclusive = (
        [f"{said}: the holdout cannot tell whether that is above {least:g}"] if observed["low"] <= least else []
    )
    return _decided("superiority", observed, limit, failed, inconclusive)


def non_inferiority(challenger: Challenger, champion: Champion, policy: Policy) -> GateResult:
    """Is it nowhere worse than the champion by more than the margin? All guardrail metrics must hold."""
    gains = _gains(challenger, champion, policy)
    observed, failed, inconclusive = {}, [], []
    for metric, margin in policy.promotion.guardrails.items():
        figures = observed[metric] = _gain_figures(gains[metric])
        said = f"{metric} gains {_range(figures)}, margin {margin:g}"
        if figures["high"] < -margin:
            failed.append(f"worse than the champion: {said}")
        elif figures["low"] < -margin:
            inconclusive.append(f"maybe worse than the champion: {said}")
    return _decided("non_inferiority", observed, dict(policy.promotion.guardrails), failed, inconclusive)


def slice_harm(challenger: Challenger, champion: Champion, policy: Policy) -> GateResult:
    """Does any slice of sufficient size suffer beyond the margin?

    One-sided tests of `gain < -margin` with the bootstrap's standard error, corrected for the number of slices
    (step-down; Holm 1979), so that a harmless candidate is called harmful with probability alpha at most.
    """
    harm = policy.promotion.harm
    if not challenger.scores.slices:
        raise MissingEvidenceError("slices of the holdout")
    challenger.scores.check_same_pairs(champion.scores)
    tests: dict[str, float] = {}
    observed: dict[str, Any] = {}
    for part in sizeable_slices(challenger.scores, policy.evaluation.slices):
        ours, theirs = challenger.scores.take(part.rows), champion.scores.take(part.rows)
        gain = paired_gains(ours, theirs, policy.evaluation, (harm.metric,))[harm.metric]
        name = f"{part.dimension}={part.label}"
        tests[name] = _p_value_of_harm(gain, harm.margin)
        observed[name] = {**_gain_figures(gain), "p_value": tests[name]}
    reasons = [
        f"{harm.metric} of {name} gains {_range(observed[name])}: harm, p = {tests[name]:.2g} of {len(tests)} tests"
        for name in holm_rejected(tests, harm.alpha)
    ]
    limit = {"metric": harm.metric, "margin": harm.margin, "alpha": harm.alpha}
    return _decided("slice_harm", observed, limit, reasons)


ALWAYS: tuple[Gate, ...] = (
    data_quality,
    label_maturity,
    not_barred,
    leakage,
    readiness_floors,
    heuristics,
    calibration,
    drift,
)
COLD_START: tuple[Gate, ...] = (no_champion,)
COMPARING: tuple[Callable[[Challenger, Champion, Policy], GateResult], ...] = (
    identity,
    not_older,
    superiority,
    non_inferiority,
    slice_harm,
)


def judge_gates(challenger: Challenger, champion: Champion | None, policy: Policy) -> Verdict:
    """Runs every gate and says what they come to: one failure rejects, else one doubt is inconclusive, else promote."""
    results = [_run(gate, challenger, champion, policy) for gate in ALWAYS]
    if champion is None:
        results += [_run(gate, challenger, champion, policy) for gate in COLD_START]
    else:
        results += [_run(gate, challenger, champion, policy) for gate in COMPARING]
    statuses = {result.status for result in results}
    decision = Decision.PROMOTE
    if Status.FAILED in statuses:
        decision = Decision.REJECT
    elif Status.INCONCLUSIVE in statuses:
        decision = Decision.INCONCLUSIVE
    reasons = [f"{result.name}: {result.reason}" for result in results if result.reason]
    if decision is not Decision.PROMOTE:
        reasons = [f"{result.name}: {result.reason}" for result in results if result.status is not Status.PASSED]
    return Verdict(decision, tuple(reasons) or ("every gate passed",), tuple(results))


def holm_rejected(p_values: Mapping[str, float], alpha: float) -> list[str]:
    """Hypotheses that Holm's step-down procedure rejects (Holm 1979), smallest p-value first."""
    rejected = []
    for position, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] > alpha / (len(p_values) - position):
            break
        rejected.append(name)
    return rejected


def _run(gate: Callable[..., GateResult], challenger: Challenger, champion: Any, policy: Policy) -> GateResult:
    name = getattr(gate, "__name__", str(gate))
    try:
        return gate(challenger, champion, policy)
    except MissingEvidenceError as error:
        return GateResult(name, Status.FAILED, None, None, f"evidence is missing: {error}")
    except KeyError as error:
        return GateResult(name, Status.FAILED, None, None, f"evidence is missing: {error.args[0]}")
    except (EvaluationError, AttributeError, TypeError, ValueError) as error:
        return GateResult(name, Status.FAILED, None, None, f"evidence cannot be read: {error}")


@lru_cache(maxsize=2)
def _gains(challenger: Challenger, champion: Champion, policy: Policy) -> dict[str, Gain]:
    metrics = tuple(policy.promotion.guardrails)
    return paired_gains(challenger.scores, champion.scores, policy.evaluation, metrics)


def _decided(
    name: str, observed: Any, limit: Any, failed: list[str], inconclusive: list[str] | None = None
) -> GateResult:
    status = Status.FAILED if failed else Status.INCONCLUSIVE if inconclusive else Status.PASSED
    return GateResult(name, status, observed, limit, "; ".join(failed or inconclusive or []))


def _succeeded(summary: Mapping[str, Any]) -> bool:
    success = summary["success"]
    if not isinstance(success, bool):
        raise MissingEvidenceError("outcome of a quality report")
    return success


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise MissingEvidenceError(f"{name} is {value!r}, must be a number")
    return float(value)


def _figures(metrics: Mapping[str, Any], metric: str) -> dict[str, float]:
    return {key: _number(metrics[metric][key], f"{metric}.{key}") for key in ("value", "low", "high")}


def _gain_figures(gain: Gain) -> dict[str, float]:
    return _figures({gain.metric: {"value": gain.estimate, "low": gain.low, "high": gain.high}}, gain.metric)


def _range(figures: Mapping[str, float]) -> str:
    return f"{figures['value']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]"


def _best(metrics: Mapping[str, Mapping[str, float]], sign: int) -> str:
    return max(metrics, key=lambda name: sign * metrics[name]["value"])


def _apart(ours: Mapping[str, float], theirs: Mapping[str, float], sign: int) -> bool:
    return ours["low"] > theirs["high"] if sign > 0 else ours["high"] < theirs["low"]


def _p_value_of_harm(gain: Gain, margin: float) -> float:
    spread = float(np.std(gain.samples, ddof=1))
    beyond = _number(gain.estimate, gain.metric) + margin
    if spread == 0:
        return 0.0 if beyond < 0 else 1.0
    return 0.5 * math.erfc(-_number(beyond / spread, gain.metric) / math.sqrt(2))
