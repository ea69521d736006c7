"""All gates in order, and what their results come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evergreen.errors import EvaluationError
from evergreen.promotion.gates import artefact, comparison, conduct, data, standing
from evergreen.promotion.gates.base import (
    Challenger,
    Champion,
    Decision,
    Gate,
    GateResult,
    MissingEvidenceError,
    Policy,
    Status,
    Verdict,
)

ALWAYS: tuple[Gate, ...] = (
    data.data_quality,
    data.label_maturity,
    data.not_barred,
    data.leakage,
    data.drift,
    data.poisoning,
    standing.readiness_floors,
    standing.heuristics,
    standing.calibration,
    standing.campaign_profit,
    standing.fairness,
    conduct.behaviour,
    conduct.robustness,
    artefact.infra,
    artefact.completeness,
    artefact.explanation_sanity,
)
COLD_START: tuple[Gate, ...] = (comparison.no_champion,)
COMPARING: tuple[Callable[[Challenger, Champion, Policy], GateResult], ...] = (
    comparison.identity,
    comparison.not_older,
    comparison.superiority,
    comparison.non_inferiority,
    comparison.slice_harm,
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
