"""Gates: pure functions of (challenger, champion, policy). What is missing fails; what cannot be told says so."""

from evergreen.promotion.gates.base import (
    Challenger,
    Champion,
    Decision,
    GateResult,
    MissingEvidenceError,
    Policy,
    Status,
    Verdict,
)
from evergreen.promotion.gates.verdict import judge_gates

__all__ = [
    "Challenger",
    "Champion",
    "Decision",
    "GateResult",
    "MissingEvidenceError",
    "Policy",
    "Status",
    "Verdict",
    "judge_gates",
]
