"""What to do next, in words, from the figures of one judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RELIES = 0.25  # share of the explained importance that one feature should not have alone
MISSED = 1.1  # a mean probability beyond this multiple of the base rate, or its inverse, is worth a word
WEAK_SLICES = 3


def recommendations(
    evaluation: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]] = (),
    drift: Mapping[str, Any] | None = None,
    explanations: Mapping[str, Any] | None = None,
) -> list[str]:
    """Sentences, most urgent first; none where there is nothing to say.

    Args:
        evaluation: of `evergreen.evaluation.report.evaluate`.
        gates: results as dicts: name, status, reason.
        drift: of `evergreen.evaluation.drift.drift_verdict`.
        explanations: of `evergreen.evaluation.explanations.report.explain`.
    """
    said = [f"{gate['name']}: {gate['reason']}." for gate in gates if gate["status"] == "failed" and gate["reason"]]
    said += [
        f"{row['name']} is {row['status']}: {row['recommendation']}."
        for row in evaluation["readiness"]["rows"]
        if row["recommendation"]
    ]
    said += _level(evaluation)
    said += _weak_slices(evaluation)
    if drift and drift["verdict"] == "drifted":
        said.append(f"The data drifted ({drift['reason']}): look at the columns that moved most before trusting it.")
    said += _leaning(explanations or {})
    return said


def _level(evaluation: Mapping[str, Any]) -> list[str]:
    base = evaluation["base_rate"]
    ratio = evaluation["mean_probability"] / base if base else 1.0
    if 1 / MISSED <= ratio <= MISSED:
        return []
    direction = "above" if ratio > 1 else "below"
    return [
        f"The mean probability is {ratio:.2f} times the share bought again, {direction} it: campaigns that price a "
        "contact by the probability should know."
    ]


def _weak_slices(evaluation: Mapping[str, Any]) -> list[str]:
    """Slices whose ROC AUC is clearly below that of all pairs, worst first."""
    overall = evaluation["metrics"]["roc_auc"]["low"]
    weak = []
    for row in evaluation["slices"]:
        high = row["metrics"]["roc_auc"]["high"]
        if overall is not None and high is not None and high < overall:
            weak.append((high, f"{row['dimension'].replace('_', ' ')} “{row['slice']}”"))
    if not weak:
        return []
    names = ", ".join(name for _, name in sorted(weak)[:WEAK_SLICES])
    return [f"It ranks clearly worse than elsewhere for {names}: look for features that tell these pairs apart."]


def _leaning(explanations: Mapping[str, Any]) -> list[str]:
    said = []
    for entry in explanations.get("global", [])[:1]:
        if entry["share"] > RELIES:
            said.append(
                f"{entry['feature']} alone carries {entry['share']:.0%} of what is explained: watch its freshness, the "
                "model falls with it."
            )
    return said
