"""One call from a challenger to a verdict: scores, evaluation, gates, evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evergreen.evaluation.card import Card, model_card
from evergreen.evaluation.explanations.report import explain, summary
from evergreen.evaluation.page import write_card, write_html
from evergreen.evaluation.report import evaluate
from evergreen.evaluation.scores import Scores
from evergreen.files import write_whole
from evergreen.lake.digest import canonical_json, digest_json
from evergreen.promotion import gates
from evergreen.promotion.champion import Champion, barred_reasons, current
from evergreen.promotion.drifting import CARD_TEXT, REPORTS, drift_of, reports_folder
from evergreen.promotion.evidence import FORMAT, code_digest, load_evidence, plain, save_evidence
from evergreen.promotion.ledger import Ledger
from evergreen.promotion.lineage import Lineage, lineage
from evergreen.promotion.probing import probe, signature
from evergreen.promotion.subjects import (
    Subject,
    challenger_of,
    holdout_frame,
    open_subject,
    score_champion,
    score_holdout,
    stored_bundle,
    training_frame,
)
from evergreen.settings import Settings
from evergreen.training.provenance import lock_digest, settings_digest

__all__ = ["UNCHANGED", "challenger_of", "drift_of", "judge_challenger"]

PROBES = "probes.json"  # beside the reports: all figures of `probe`, times included, which no evidence may hold
UNCHANGED = "unchanged"  # verdict about a challenger that is the champion already


def judge_challenger(
    settings: Settings,
    challenger: Mapping[str, Any],
    *,
    drift: Mapping[str, Any] | None = None,
    run_id: str = "",
) -> dict[str, Any]:
    """Scores challenger, champion and heuristics on the challenger's holdout, runs the gates, writes the evidence.

    The same inputs, code and settings give the same evidence digest.

    Args:
        settings: home, evaluation, gates.
        challenger: what `register_challenger` returned, or `challenger_of`.
        drift: what `drift_of` returned; None: it is worked out here.
        run_id: of the orchestrator, for the ledger.

    Returns:
        JSON: `verdict` (promote, reject, inconclusive or unchanged), `reason`, `reasons` in words, `evidence_digest`,
        `metrics` (`{name: {value, low, high}}`), `gates` (name -> status), `generation` (of the champion that it was
        compared with; 0: none), `challenger_version`, `champion_version`, `day`, `reports` (absolute paths).

    Raises:
        LedgerError: the ledger was changed behind its back.
        BundleError, TrainingError, PromotionRefusedError: bundle, training set and day of the challenger are
            incomplete, altered, or do not belong together.
    """
    ledger = Ledger(settings)
    ledger.verify().raise_if_broken()
    champion = current(settings)
    if champion is not None and champion.bundle_digest == challenger["bundle_digest"]:
        return _unchanged(settings, champion, challenger)
    with ledger.record(
        "judge",
        model_version=str(challenger["version"]),
        resources_affected=(f"bundle:{challenger['bundle_digest']}", f"run:{run_id}"),
    ) as draft:
        judged = _judge(settings, challenger, champion, drift or drift_of(settings, challenger))
        draft.add(
            metrics={
                "verdict": judged["verdict"],
                "reasons": judged["reasons"],
                **{name: figures["value"] for name, figures in judged["metrics"].items()},
            },
            resources_affected=(*draft.entry.resources_affected, f"evidence:{judged['evidence_digest']}"),
        )
    return judged


def _judge(
    settings: Settings, challenger: Mapping[str, Any], champion: Champion | None, drift: Mapping[str, Any]
) -> dict[str, Any]:
    subject = open_subject(settings, challenger)
    origin = lineage(settings, subject.training_set)
    generation = champion.generation if champion else 0
    frame = holdout_frame(subject.training_set)
    scores = score_holdout(subject.bundle, frame)
    heuristics = {
        name: score_holdout(stored_bundle(settings, digest), frame) for name, digest in subject.heuristics.items()
    }
    rival, problem = score_champion(settings, champion, frame) if champion else (None, "")
    evaluation = evaluate(scores, settings.evaluation, heuristics)
    learned = training_frame(subject.training_set, ("customer_id", "label", *subject.bundle.features))
    explanations = plain(explain(subject.bundle, frame, settings.evaluation.explanations, learned))
    probed = probe(settings, subject, frame, scores)
    found = _found(settings, subject, champion, origin, evaluation, drift, explanations)
    found["fairness"] = probed["fairness"]
    card = model_card(plain(found))
    verdict = gates.judge_gates(
        gates.Challenger(
            version=subject.version,
            bundle_digest=subject.digest,
            data_day=subject.data_day,
            newest_day=origin.newest_day,
            holdout=subject.training_set.holdout,
            as_ofs=subject.training_set.as_ofs,
            scores=scores,
            evaluation=evaluation,
            quality=origin.quality,
            drift=drift["own"],
            generation=generation,
            barred=_barred(settings, subject),
            champion_problem=problem,
            explanations=explanations,
            card=card.digest,
            signature=signature(subject),
            **probed,
        ),
        gates.Champion(champion.version, champion.bundle_digest, champion.data_day, rival)
        if champion and rival
        else None,
        gates.Policy(settings.promotion, settings.evaluation, settings.training.horizon_days),
    )
    results = {result.name: plain(result.as_dict()) for result in verdict.results}
    folder = reports_folder(settings, subject.digest, generation)
    write_whole(folder / PROBES, json.dumps(plain(probed), sort_keys=True, indent=1))
    _write_reports(settings, subject, generation, evaluation, heuristics, rival, verdict, drift, explanations, card)
    document = found | {
        "card": card.digest,
        "gates": [result.as_dict() for result in verdict.results],
        "verdict": verdict.decision,
        "reasons": verdict.reasons,
    }
    document["reports"] = {name: f"judgements/{folder.name}/{file}" for name, file in REPORTS.items()}
    _keep_scores(settings, subject, generation, scores, rival)
    return {
        "verdict": str(verdict.decision),
        "reason": "; ".join(verdict.reasons),
        "reasons": list(verdict.reasons),
        "evidence_digest": save_evidence(settings, document),
        "metrics": plain(evaluation["metrics"]),
        "gates": {name: result["status"] for name, result in results.items()},
        "generation": generation,
        "challenger_version": subject.version,
        "champion_version": champion.version if champion else None,
        "day": str(subject.data_day),
        "reports": {name: str(folder / file) for name, file in REPORTS.items()},
    }


def _found(
    settings: Settings,
    subject: Subject,
    champion: Champion | None,
    origin: Lineage,
    evaluation: Mapping[str, Any],
    drift: Mapping[str, Any],
    explanations: Mapping[str, Any],
) -> dict[str, Any]:
    """The evidence document before the gates are asked: all that the card is made from."""
    manifest = subject.bundle.manifest
    return {
        "format": FORMAT,
        "model": {
            "name": settings.mlflow.model_name,
            "version": subject.version,
            "bundle_digest": subject.digest,
            "candidate": manifest["candidate"],
            "params": manifest["params"],
            "frameworks": manifest["frameworks"],
        },
        "data_day": subject.data_day,
        "training_set": {
            "digest": subject.training_set.digest,
            "as_ofs": subject.training_set.as_ofs,
            "holdout": subject.training_set.holdout,
            "rows": subject.training_set.rows,
        },
        "tables": origin.versions,
        "newest_ingested_day": origin.newest_day,
        "code": code_digest(),
        "lock": lock_digest(),
        "settings": settings_digest(settings),
        "image": None,
        "champion": {
            "generation": champion.generation if champion else 0,
            "version": champion.version if champion else None,
            "bundle_digest": champion.bundle_digest if champion else None,
            "evidence_digest": champion.evidence_digest if champion else None,
        },
        "quality": origin.quality,
        "drift": {key: value for key, value in drift.items() if key != "report"},
        "evaluation": {key: value for key, value in evaluation.items() if key != "curves"},
        "explanations": summary(explanations) | {"digest": digest_json(explanations)},
    }


def _write_reports(
    settings: Settings,
    subject: Subject,
    generation: int,
    evaluation: Mapping[str, Any],
    heuristics: Mapping[str, Scores],
    rival: Scores | None,
    verdict: gates.Verdict,
    drift: Mapping[str, Any],
    explanations: Mapping[str, Any],
    card: Card,
) -> None:
    results = [plain(result.as_dict()) for result in verdict.results]
    compared = next((one["observed"] for one in results if one["name"] == "non_inferiority"), None)
    folder = reports_folder(settings, subject.digest, generation)
    card.write(folder / CARD_TEXT)
    write_card(card, folder / REPORTS["card"])
    write_whole(folder / REPORTS["explanations"], canonical_json(explanations))
    write_html(
        evaluation,
        folder / REPORTS["evaluation"],
        title=f"Version {subject.version}, data up to {subject.data_day}",
        facts={
            "candidate": str(subject.bundle.manifest["candidate"]),
            "bundle": subject.digest,
            "training set": subject.training_set.digest,
            "holdout as of": str(subject.training_set.holdout),
            "training as of": f"{min(subject.training_set.as_ofs)} to {max(subject.training_set.as_ofs)}",
            "compared with": f"champion of generation {generation}" if rival else "no champion",
        },
        champion=evaluate(rival, settings.evaluation, heuristics) if rival else None,
        gains=compared if isinstance(compared, dict) else None,
        verdict=(str(verdict.decision), verdict.reasons),
        gates=results,
        drift=plain(drift),
        explanations=explanations,
        card=card,
    )


def _keep_scores(settings: Settings, subject: Subject, generation: int, scores: Scores, rival: Scores | None) -> None:
    """What was compared, row by row: for looking closer, and for delayed performance later."""
    folder = settings.home_path / "evaluations" / reports_folder(settings, subject.digest, generation).name
    scores.save(folder / "challenger.parquet")
    if rival is not None:
        rival.save(folder / "champion.parquet")


def _barred(settings: Settings, subject: Subject) -> str:
    reasons = barred_reasons(settings)
    return reasons.get(subject.version) or reasons.get(subject.digest, "")


def _unchanged(settings: Settings, champion: Champion, challenger: Mapping[str, Any]) -> dict[str, Any]:
    document = load_evidence(settings, champion.evidence_digest).document
    reason = f"the challenger is the champion already (version {champion.version}, generation {champion.generation})"
    reports = settings.home_path / "reports"
    return {
        "verdict": UNCHANGED,
        "reason": reason,
        "reasons": [reason],
        "evidence_digest": champion.evidence_digest,
        "metrics": document["evaluation"]["metrics"],
        "gates": {gate["name"]: gate["status"] for gate in document["gates"]},
        "generation": champion.generation,
        "challenger_version": str(challenger["version"]),
        "champion_version": champion.version,
        "day": str(challenger["data_day"]),
        "reports": {name: str(reports / path) for name, path in document["reports"].items()},
    }
