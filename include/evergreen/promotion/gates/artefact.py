"""Gates on the artefact: does it load and answer in the real scoring code, and is all there that belongs to it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergreen.promotion.gates.base import (
    Challenger,
    Champion,
    GateResult,
    MissingEvidenceError,
    Policy,
    decided,
    number,
)

PARTS = ("format", "global", "random_probe", "additivity")
SHA256_DIGITS = 64


def infra(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Does the bundle load and answer in a limited process, as here, fast and small enough?

    What was observed stands in the evidence as yes or no: a clock would give the same candidate another digest every
    time. A figure that is beyond its limit stands in the reason.
    """
    limits = policy.evaluation.infra
    seen = challenger.infra
    if not _flag(seen, "loaded"):
        return decided(
            "infra", {"loaded": False}, {"loaded": True}, [f"it does not load and answer: {seen['problem']}"]
        )
    size = number(seen["size_bytes"], "size_bytes")
    figures = {
        "golden predictions": (number(seen["max_difference"], "max_difference"), limits.max_difference, "differ by"),
        "size": (size / 2**20, limits.max_size_mb, "MB"),
        "memory": (number(seen["peak_bytes"], "peak_bytes") / 2**20, limits.max_memory_mb, "MB"),
        "load": (number(seen["load_seconds"], "load_seconds"), limits.max_load_seconds, "s"),
        "one row": (number(seen["row_ms"], "row_ms"), limits.max_row_ms, "ms"),
        "a thousand rows": (number(seen["batch_ms"], "batch_ms"), limits.max_batch_ms, "ms"),
    }
    reasons = [
        f"{name}: {observed:.4g} {unit}, at most {limit:g} is allowed"
        for name, (observed, limit, unit) in figures.items()
        if observed > limit
    ]
    observed = {"loaded": True, "size_bytes": int(size)} | {
        name: value <= limit for name, (value, limit, _) in figures.items()
    }
    return decided("infra", observed, {name: limit for name, (_, limit, _) in figures.items()}, reasons)


def completeness(challenger: Challenger, _champion: Champion | None, _policy: Policy) -> GateResult:
    """Are model card, explanations and signature there?"""
    reasons = []
    if len(challenger.card) != SHA256_DIGITS:
        reasons.append("there is no model card")
    missing = [part for part in PARTS if not challenger.explanations.get(part)]
    if missing:
        reasons.append(f"the explanations lack {' and '.join(missing)}")
    if not challenger.signature or not all(name and dtype for name, dtype in challenger.signature):
        reasons.append("the bundle has no signature: names and types of its features")
    observed = {
        "card": bool(challenger.card),
        "explanations": [part for part in PARTS if part not in missing],
        "signature": len(challenger.signature),
    }
    return decided("completeness", observed, {"explanations": list(PARTS)}, reasons)


def explanation_sanity(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Do the explanations add up, and does a column of random numbers count for nothing?"""
    limits = policy.evaluation.explanation_limits
    probe, additivity = challenger.explanations["random_probe"], challenger.explanations["additivity"]
    place = number(probe["rank"], "random_probe.rank") / number(probe["of"], "random_probe.of")
    observed = {
        "random_place": place,
        "random_share": number(probe["share"], "random_probe.share"),
        "additivity_error": number(additivity["max_error"], "additivity.max_error"),
    }
    reasons = []
    if place < limits.min_random_place:
        reasons.append(
            f"a column of random numbers ranks {probe['rank']} of {probe['of']} features, "
            f"it may not be in the first {limits.min_random_place:.0%}"
        )
    if observed["random_share"] > limits.max_random_share:
        reasons.append(
            f"a column of random numbers has {observed['random_share']:.2%} of the importance, "
            f"at most {limits.max_random_share:.2%} is allowed"
        )
    if observed["additivity_error"] > limits.max_additivity_error:
        reasons.append(
            f"contributions miss the score by {observed['additivity_error']:.2g}, "
            f"at most {limits.max_additivity_error:g} is allowed"
        )
    return decided("explanation_sanity", observed, limits.model_dump(mode="json"), reasons)


def _flag(figures: Mapping[str, Any], name: str) -> bool:
    if not isinstance(figures[name], bool):
        raise MissingEvidenceError(f"{name} is {figures[name]!r}, must be true or false")
    return bool(figures[name])
