"""What gates are made of: a challenger with its figures, a champion, a policy, a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from evergreen.evaluation.intervals import Gain
from evergreen.evaluation.scores import Scores
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
    behaviour: Mapping[str, Any] = field(default_factory=dict)  # `evergreen.evaluation.behaviour.behaviour`
    robustness: Mapping[str, Any] = field(default_factory=dict)  # `evergreen.evaluation.robustness.robustness`
    fairness: Mapping[str, Any] = field(default_factory=dict)  # `evergreen.evaluation.fairness.fairness`
    poisoning: Mapping[str, Any] = field(default_factory=dict)  # `evergreen.evaluation.poisoning.poisoning`
    infra: Mapping[str, Any] = field(default_factory=dict)  # `evergreen.evaluation.infra.validate`
    explanations: Mapping[str, Any] = field(default_factory=dict)  # the document of `evergreen.evaluation.explanations`
    card: str = ""  # SHA-256 of the model card; empty where there is none
    signature: tuple[tuple[str, str], ...] = ()  # (name, dtype) of each feature that the bundle reads


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


def decided(
    name: str, observed: Any, limit: Any, failed: list[str], inconclusive: list[str] | None = None
) -> GateResult:
    """A result: failed where there is a reason to fail, else inconclusive where there is a doubt, else passed."""
    status = Status.FAILED if failed else Status.INCONCLUSIVE if inconclusive else Status.PASSED
    return GateResult(name, status, observed, limit, "; ".join(failed or inconclusive or []))


def number(value: Any, name: str) -> float:
    """A finite number, or `MissingEvidenceError` with its name."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise MissingEvidenceError(f"{name} is {value!r}, must be a number")
    return float(value)


def figures(metrics: Mapping[str, Any], metric: str) -> dict[str, float]:
    """`value`, `low` and `high` of a metric, all of them numbers."""
    return {key: number(metrics[metric][key], f"{metric}.{key}") for key in ("value", "low", "high")}


def gain_figures(gain: Gain) -> dict[str, float]:
    """`figures` of a gain over the champion."""
    return figures({gain.metric: {"value": gain.estimate, "low": gain.low, "high": gain.high}}, gain.metric)


def shown(values: Mapping[str, float]) -> str:
    """`value [low, high]` for people."""
    return f"{values['value']:.4f} [{values['low']:.4f}, {values['high']:.4f}]"
