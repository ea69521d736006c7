"""Gates: figures that differ on each side, ties, missing values, and candidates that are planted to be bad.

The candidates come from one honest world: labels are drawn from known probabilities, the champion knows them roughly,
the challenger better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from evergreen.evaluation.intervals import paired_bootstrap
from evergreen.evaluation.report import evaluate
from evergreen.evaluation.scores import Scores
from evergreen.promotion import gates
from evergreen.promotion.gates import (
    Challenger,
    Champion,
    Decision,
    Policy,
    Status,
    artefact,
    comparison,
    data,
    judge_gates,
    standing,
)
from evergreen.promotion.gates import verdict as verdicts
from evergreen.promotion.gates.statistics import holm_rejected
from evergreen.settings.evaluation import EvaluationSettings
from evergreen.settings.promotion import PromotionSettings

PAIRS, CUSTOMERS = 8000, 400
EVALUATION = EvaluationSettings.model_validate(
    {"resamples": 60, "slices": {"min_pairs": 400, "min_positives": 40, "min_customers": 20}}
)
POLICY = Policy(PromotionSettings(), EVALUATION, 28)
LOGITS = np.random.default_rng(1).normal(-2.2, 1.3, PAIRS)
TRUTH = 1 / (1 + np.exp(-LOGITS))
LABELS = (np.random.default_rng(2).random(PAIRS) < TRUTH).astype(np.int8)
CODES = np.random.default_rng(3).integers(0, CUSTOMERS, PAIRS)
COUNTRY = np.where(CODES % 4 == 0, "France", "United Kingdom").astype(object)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def scores_of(probabilities: np.ndarray, labels: np.ndarray = LABELS) -> Scores:
    customers = np.array([f"c{code}" for code in CODES], dtype=object)
    products = np.array([f"p{number}" for number in range(PAIRS)], dtype=object)
    return Scores(customers, products, labels, probabilities, {"country": COUNTRY})


def noisy(noise: float, seed: int = 4) -> np.ndarray:
    """Probabilities of a model that sees the truth through noise, calibrated: shrunk as regression says."""
    seen = LOGITS + np.random.default_rng(seed).normal(0, noise, PAIRS)
    kept = 1.3**2 / (1.3**2 + noise**2)
    rough = -2.2 + kept * (seen + 2.2)
    spread = np.sqrt(1.3**2 * (1 - kept))
    points, weights = np.polynomial.hermite_e.hermegauss(9)
    return sum(sigmoid(rough + spread * point) * weight for point, weight in zip(points, weights, strict=True)) / sum(
        weights
    )


GOOD, OLD, HEURISTIC = scores_of(noisy(0.3)), scores_of(noisy(1.0)), scores_of(noisy(3.0))
EVALUATED = evaluate(GOOD, EVALUATION, {"frequency": HEURISTIC})
QUALITY = {suite: {"success": True} for suite in ("transactions", "features", "training_set")}
BEHAVED = {
    "invariance": {"ids": {"max_change": 0.0}, "order": {"max_change": 0.0}, "renamed": {"change_share": 0.02}},
    "direction": {"sooner": {"change_share": 0.5}, "once_more": {"change_share": 1.1}},
    "minimum_function": {"first_share": 0.9},
}
ROBUST = {kind: {"roc_auc_loss": 0.01, "average_precision_loss_share": 0.05} for kind in ("missing", "noisy", "nudged")}
FAIR = {
    "rows": [
        {"dimension": "country", "slice": name, "metric": metric, "gap": 0.1, "standard_error": 0.05}
        for name in ("France", "United Kingdom")
        for metric in ("recall", "calibration")
    ]
}
CLEAN = {"labels": {"checked_share": 0.9, "contradicted_share": 0.0}, "twins": {"share": 0.0}}
SERVABLE = {
    "loaded": True,
    "problem": "",
    "size_bytes": 400_000,
    "max_difference": 0.0,
    "load_seconds": 1.5,
    "row_ms": 6.0,
    "batch_ms": 7.0,
    "peak_bytes": 300 * 2**20,
}
EXPLAINED = {
    "format": "evergreen.explanations/1",
    "global": [{"feature": "pair_purchases", "mean_abs": 0.5, "share": 1.0, "rank": 1}],
    "random_probe": {"rank": 120, "of": 134, "share": 0.001},
    "additivity": {"max_error": 1e-6, "rows": 500},
}
STABLE = {"verdict": "stable", "share_drifted": 0.1, "reason": ""}


def challenger(**changes: Any) -> Challenger:
    honest: dict[str, Any] = {
        "version": "2",
        "bundle_digest": "b" * 64,
        "data_day": date(2011, 8, 31),
        "newest_day": date(2011, 8, 31),
        "holdout": date(2011, 8, 4),
        "as_ofs": (date(2011, 6, 30), date(2011, 7, 7)),
        "scores": GOOD,
        "evaluation": EVALUATED,
        "quality": QUALITY,
        "drift": STABLE,
        "generation": 1,
        "behaviour": BEHAVED,
        "robustness": ROBUST,
        "fairness": FAIR,
        "poisoning": CLEAN,
        "infra": SERVABLE,
        "explanations": EXPLAINED,
        "card": "c" * 64,
        "signature": (("pair_purchases", "float32"),),
    }
    if "scores" in changes and "evaluation" not in changes:
        changes["evaluation"] = evaluate(changes["scores"], EVALUATION, {"frequency": HEURISTIC})
    return Challenger(**honest | changes)


def champion(**changes: Any) -> Champion:
    defaults: dict[str, Any] = {
        "version": "1",
        "bundle_digest": "a" * 64,
        "data_day": date(2011, 8, 30),
        "scores": OLD,
    }
    return Champion(**defaults | changes)


def with_figures(metric: str, **figures: float | None) -> dict[str, Any]:
    metrics = EVALUATED["metrics"]
    return EVALUATED | {"metrics": metrics | {metric: metrics[metric] | figures}}


def readiness(status: str) -> dict[str, Any]:
    row = {"name": "ROC AUC", "status": status, "observed": "0.6", "limit": "at least 0.7", "recommendation": ""}
    return EVALUATED | {"readiness": {"status": status, "rows": [row]}}


def worse_for_one_country() -> Scores:
    """Better on the whole, but it knows the customers of one country less well than the champion does."""
    probabilities = noisy(0.05).copy()
    rows = np.flatnonzero(COUNTRY == "France")
    probabilities[rows] = noisy(2.5)[rows]
    return scores_of(probabilities)


def promotes(candidate: Challenger, old: Champion | None = None, policy: Policy = POLICY) -> bool:
    return judge_gates(candidate, old, policy).decision is Decision.PROMOTE


def status_of(verdict: gates.Verdict, name: str) -> Status:
    return next(result.status for result in verdict.results if result.name == name)


def names(verdict: gates.Verdict) -> set[str]:
    return {result.name for result in verdict.results}


def gate_names(*groups: tuple[Callable[..., Any], ...]) -> set[str]:
    return {gate.__name__ for group in groups for gate in group}


def test_an_honest_and_better_candidate_is_promoted() -> None:
    verdict = judge_gates(challenger(), champion(), POLICY)
    assert verdict.decision is Decision.PROMOTE, verdict.reasons
    assert verdict.reasons == ("every gate passed",)
    assert {result.name for result in verdict.results} == {
        gate.__name__ for gate in (*verdicts.ALWAYS, *verdicts.COMPARING)
    }


def test_the_first_candidate_is_its_own_explicit_case() -> None:
    verdict = judge_gates(challenger(generation=0), None, POLICY)
    assert verdict.decision is Decision.PROMOTE
    assert verdict.reasons == ("no_champion: there is no champion yet: what it is by itself decides alone",)
    assert {result.name for result in verdict.results} == {
        gate.__name__ for gate in (*verdicts.ALWAYS, *verdicts.COLD_START)
    }


def changed(document: Any, *path: str, to: Any) -> Any:
    """The document with one value replaced."""
    first, *rest = path
    return {**document, first: changed(document[first], *rest, to=to) if rest else to}


def one_row_unfair(gap: float) -> dict[str, Any]:
    return {"rows": [{**row, "gap": gap if number == 0 else row["gap"]} for number, row in enumerate(FAIR["rows"])]}


PLANTED: dict[str, Callable[[], tuple[Challenger, Champion, Policy]]] = {
    "data_quality": lambda: (
        challenger(quality=QUALITY | {"features": {"success": False}}),
        champion(),
        POLICY,
    ),
    "label_maturity": lambda: (challenger(newest_day=date(2011, 8, 30)), champion(), POLICY),
    "not_barred": lambda: (challenger(barred="complaints"), champion(), POLICY),
    "leakage": lambda: (challenger(evaluation=with_figures("roc_auc", value=0.98, high=0.99)), champion(), POLICY),
    "readiness_floors": lambda: (challenger(evaluation=readiness("failed")), champion(), POLICY),
    "heuristics": lambda: (
        challenger(evaluation=EVALUATED | {"heuristics": {"frequency": EVALUATED["metrics"]}}),
        champion(),
        POLICY,
    ),
    "calibration": lambda: (
        challenger(evaluation=EVALUATED | {"mean_probability": 1.5 * EVALUATED["base_rate"]}),
        champion(),
        POLICY,
    ),
    "campaign_profit": lambda: (
        challenger(),
        champion(),
        Policy(PromotionSettings.model_validate({"profit": {"min_profit": 1e6}}), EVALUATION, 28),
    ),
    "drift": lambda: (
        challenger(drift={"verdict": "drifted", "share_drifted": 0.7, "reason": "70% of the columns drifted"}),
        champion(),
        POLICY,
    ),
    "poisoning": lambda: (challenger(poisoning=changed(CLEAN, "twins", "share", to=0.2)), champion(), POLICY),
    "fairness": lambda: (challenger(fairness=one_row_unfair(0.9)), champion(), POLICY),
    "behaviour": lambda: (
        challenger(behaviour=changed(BEHAVED, "direction", "sooner", "change_share", to=-0.3)),
        champion(),
        POLICY,
    ),
    "robustness": lambda: (
        challenger(robustness=changed(ROBUST, "missing", "roc_auc_loss", to=0.3)),
        champion(),
        POLICY,
    ),
    "infra": lambda: (challenger(infra=SERVABLE | {"size_bytes": 600 * 2**20}), champion(), POLICY),
    "completeness": lambda: (challenger(card=""), champion(), POLICY),
    "explanation_sanity": lambda: (
        challenger(explanations=changed(EXPLAINED, "random_probe", "rank", to=3)),
        champion(),
        POLICY,
    ),
    "identity": lambda: (challenger(bundle_digest="a" * 64), champion(), POLICY),
    "not_older": lambda: (challenger(), champion(data_day=date(2011, 9, 1)), POLICY),
    "superiority": lambda: (
        challenger(),
        champion(),
        Policy(PromotionSettings(min_gain=0.5), EVALUATION, 28),
    ),
    "non_inferiority": lambda: (
        challenger(),
        champion(scores=scores_of(sharper_in_the_list())),
        Policy(PromotionSettings(guardrails={"average_precision": 0.0, "recall_at_10": 0.0}), EVALUATION, 28),
    ),
    "slice_harm": lambda: (challenger(scores=worse_for_one_country()), champion(), POLICY),
}


def sharper_in_the_list() -> np.ndarray:
    """Every customer's list in perfect order, yet customers are mixed up: worse overall, better at recall@10."""
    within = LABELS * 0.02 + 0.01
    between = np.random.default_rng(6).normal(0, 2, CUSTOMERS)[CODES]
    return sigmoid(np.log(within / (1 - within)) + between)


@pytest.mark.parametrize("gate", PLANTED)
def test_each_planted_candidate_is_stopped_by_its_gate_and_by_no_other(
    gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without that one gate the candidate would be promoted, so no gate can be deleted unnoticed."""
    arguments = PLANTED[gate]()
    verdict = judge_gates(*arguments)
    assert [result.name for result in verdict.results if result.status is not Status.PASSED] == [gate]
    assert verdict.decision is not Decision.PROMOTE
    assert verdict.reasons[0].startswith(f"{gate}: ")
    for group in ("ALWAYS", "COMPARING"):
        monkeypatch.setattr(verdicts, group, tuple(one for one in getattr(verdicts, group) if one.__name__ != gate))
    assert promotes(*arguments)


def test_every_gate_has_a_planted_candidate() -> None:
    assert set(PLANTED) == gate_names(verdicts.ALWAYS, verdicts.COMPARING)


@pytest.mark.parametrize(
    ("name", "scores", "stopped_by"),
    [
        ("leaking", scores_of(np.where(LABELS == 1, 0.99, 0.01)), {"leakage"}),
        ("label-swapped", scores_of(1 - noisy(0.3)), {"readiness_floors", "heuristics", "calibration", "superiority"}),
        ("miscalibrated", scores_of(sigmoid(np.log(noisy(0.3) / (1 - noisy(0.3))) + 1.2)), {"calibration"}),
        ("constant", scores_of(np.full(PAIRS, LABELS.mean())), {"heuristics", "superiority", "readiness_floors"}),
    ],
)
def test_planted_bad_candidates_are_rejected(name: str, scores: Scores, stopped_by: set[str]) -> None:
    verdict = judge_gates(challenger(scores=scores), champion(), POLICY)
    assert verdict.decision is Decision.REJECT
    failed = {result.name for result in verdict.results if result.status is Status.FAILED}
    assert stopped_by <= failed
    cold = judge_gates(challenger(scores=scores, generation=0), None, POLICY)
    assert cold.decision is Decision.REJECT, "the first candidate must hold its own without a champion"


def test_nan_probabilities_are_rejected() -> None:
    broken = noisy(0.3).copy()
    broken[7] = np.nan
    verdict = judge_gates(challenger(scores=scores_of(broken), evaluation=EVALUATED), champion(), POLICY)
    assert verdict.decision is Decision.REJECT
    assert "1 of 8,000 probabilities are not in 0..1" in " ".join(verdict.reasons)


def test_the_champion_against_itself_is_inconclusive() -> None:
    itself = judge_gates(challenger(bundle_digest="a" * 64, scores=OLD), champion(), POLICY)
    assert itself.decision is Decision.INCONCLUSIVE
    assert "it has the bundle and it has the scores of the champion (version 1)" in itself.reasons[0]
    copy = judge_gates(challenger(scores=scores_of(noisy(1.0))), champion(), POLICY)
    assert copy.decision is Decision.INCONCLUSIVE


def test_a_copy_of_the_champion_does_not_refresh_it() -> None:
    aged = champion(data_day=date(2011, 8, 1))
    assert judge_gates(challenger(scores=scores_of(noisy(1.0))), aged, POLICY).decision is Decision.INCONCLUSIVE


@pytest.mark.parametrize("suite", sorted(QUALITY))
def test_a_suite_that_was_not_run_fails(suite: str) -> None:
    some = {name: summary for name, summary in QUALITY.items() if name != suite}
    result = data.data_quality(challenger(quality=some), None, POLICY)
    assert (result.status, result.reason) == (Status.FAILED, f"there is no report of suite {suite}")


@pytest.mark.parametrize(
    ("newest_day", "as_of", "status"),
    [
        (date(2011, 8, 31), date(2011, 7, 7), Status.PASSED),  # both windows end exactly where they may
        (date(2011, 8, 30), date(2011, 7, 7), Status.FAILED),
        (date(2011, 8, 31), date(2011, 7, 8), Status.FAILED),
        (date(2011, 8, 31), date(2011, 8, 4), Status.FAILED),
    ],
)
def test_labels_must_be_mature_to_the_day(newest_day: date, as_of: date, status: Status) -> None:
    result = data.label_maturity(challenger(newest_day=newest_day, as_ofs=(as_of,)), None, POLICY)
    assert result.status is status


@pytest.mark.parametrize(
    ("ratio", "status"), [(1.4, "passed"), (1.41, "failed"), (1 / 1.4, "passed"), (0.70, "failed"), (1.0, "passed")]
)
def test_calibration_in_the_large_has_two_sides(ratio: float, status: str) -> None:
    evaluation = EVALUATED | {"base_rate": 0.25, "mean_probability": 0.25 * ratio}
    assert standing.calibration(challenger(evaluation=evaluation), None, POLICY).status == status


def test_calibration_bin_by_bin() -> None:
    limit = PromotionSettings().calibration.max_ece_share * EVALUATED["base_rate"]
    for ece, status in ((limit * 0.99, Status.PASSED), (limit * 1.01, Status.FAILED)):
        evaluation = with_figures("ece", value=ece)
        assert standing.calibration(challenger(evaluation=evaluation), None, POLICY).status is status


def test_a_holdout_without_repurchases_fails() -> None:
    result = judge_gates(challenger(evaluation=EVALUATED | {"base_rate": 0.0}), champion(), POLICY)
    assert status_of(result, "calibration") is Status.FAILED


@pytest.mark.parametrize(
    ("metric", "ours", "theirs", "status"),
    [
        ("roc_auc", (0.80, 0.78, 0.82), (0.70, 0.68, 0.72), Status.PASSED),
        ("roc_auc", (0.80, 0.71, 0.89), (0.70, 0.68, 0.72), Status.INCONCLUSIVE),
        ("roc_auc", (0.80, 0.72, 0.88), (0.70, 0.68, 0.72), Status.INCONCLUSIVE),  # they touch
        ("roc_auc", (0.70, 0.68, 0.72), (0.70, 0.68, 0.72), Status.FAILED),
        ("roc_auc", (0.60, 0.58, 0.62), (0.70, 0.68, 0.72), Status.FAILED),
        ("log_loss", (0.10, 0.09, 0.11), (0.20, 0.19, 0.21), Status.PASSED),
        ("log_loss", (0.20, 0.19, 0.21), (0.10, 0.09, 0.11), Status.FAILED),
        ("log_loss", (0.18, 0.15, 0.21), (0.20, 0.19, 0.21), Status.INCONCLUSIVE),
    ],
)
def test_heuristics_are_beaten_in_the_metrics_own_direction(metric, ours, theirs, status) -> None:
    def figures(values: tuple[float, float, float]) -> dict[str, dict[str, float]]:
        return {metric: dict(zip(("value", "low", "high"), values, strict=True))}

    worse = {"roc_auc": (0.5, 0.4, 0.6), "log_loss": (0.9, 0.8, 1.0)}[metric]
    evaluation = {"metrics": figures(ours), "heuristics": {"poor": figures(worse), "best": figures(theirs)}}
    policy = Policy(PromotionSettings(heuristic_metrics=(metric,)), EVALUATION, 28)
    result = standing.heuristics(challenger(evaluation=evaluation), None, policy)
    assert (result.status, result.limit[metric]["best"]) == (status, "best")


@pytest.mark.parametrize(
    ("field", "broken", "gate", "said"),
    [
        ("behaviour", changed(BEHAVED, "invariance", "ids", "max_change", to=1e-3), "behaviour", "other identifiers"),
        ("behaviour", changed(BEHAVED, "invariance", "order", "max_change", to=0.1), "behaviour", "order of the rows"),
        ("behaviour", changed(BEHAVED, "invariance", "renamed", "change_share", to=0.6), "behaviour", "another name"),
        ("behaviour", changed(BEHAVED, "direction", "once_more", "change_share", to=-0.06), "behaviour", "one more"),
        ("behaviour", changed(BEHAVED, "minimum_function", "first_share", to=0.5), "behaviour", "50% of the customers"),
        ("robustness", changed(ROBUST, "noisy", "roc_auc_loss", to=0.1), "robustness", "noisy features cost 0.1000"),
        ("robustness", changed(ROBUST, "nudged", "average_precision_loss_share", to=0.8), "robustness", "nudged"),
        ("poisoning", changed(CLEAN, "labels", "contradicted_share", to=0.01), "poisoning", "1.00% of the labels"),
        ("poisoning", changed(CLEAN, "labels", "checked_share", to=0.1), "poisoning", "only 10.0%"),
        ("infra", {"loaded": False, "problem": "no answer within 121 s"}, "infra", "no answer within 121 s"),
        ("infra", SERVABLE | {"max_difference": 0.01}, "infra", "golden predictions: 0.01 differ by"),
        ("infra", SERVABLE | {"row_ms": 80.0}, "infra", "one row: 80 ms"),
        ("infra", SERVABLE | {"peak_bytes": 4 * 2**30}, "infra", "memory: 4096 MB"),
        ("explanations", changed(EXPLAINED, "additivity", "max_error", to=0.2), "explanation_sanity", "miss the score"),
        ("explanations", changed(EXPLAINED, "random_probe", "share", to=0.2), "explanation_sanity", "20.00%"),
        ("explanations", EXPLAINED | {"global": []}, "completeness", "lack global"),
        ("signature", (), "completeness", "no signature"),
        ("card", "c" * 63, "completeness", "no model card"),
    ],
)
def test_each_limit_of_what_a_candidate_was_put_through(field: str, broken: Any, gate: str, said: str) -> None:
    verdict = judge_gates(challenger(**{field: broken}), champion(), POLICY)
    assert verdict.decision is Decision.REJECT
    assert [result.name for result in verdict.results if result.status is not Status.PASSED] == [gate]
    assert said in verdict.reasons[0]


@pytest.mark.parametrize(
    "field", ["behaviour", "robustness", "fairness", "poisoning", "infra", "explanations", "card", "signature"]
)
def test_what_a_candidate_was_not_put_through_fails(field: str) -> None:
    verdict = judge_gates(challenger(**{field: type(challenger().__dict__[field])()}), champion(), POLICY)
    assert verdict.decision is Decision.REJECT


def test_the_evidence_of_infra_holds_no_clock() -> None:
    """Else the same candidate would get another digest at every judgement."""
    one = artefact.infra(challenger(), None, POLICY)
    other = artefact.infra(
        challenger(infra=SERVABLE | {"row_ms": 9.0, "load_seconds": 2.0, "batch_ms": 1.0}), None, POLICY
    )
    assert one == other
    assert "_ms" not in str(one.as_dict())


@pytest.mark.parametrize(("gap", "status"), [(0.5, Status.PASSED), (0.55, Status.PASSED), (0.7, Status.FAILED)])
def test_a_gap_must_be_beyond_its_limit_and_beyond_chance(gap: float, status: Status) -> None:
    for signed in (gap, -gap):
        assert standing.fairness(challenger(fairness=one_row_unfair(signed)), None, POLICY).status is status


def test_profit_is_compared_with_the_champions() -> None:
    mute = scores_of(np.full(PAIRS, 0.01))  # contacts nobody: earns nothing
    result = standing.campaign_profit(challenger(scores=mute), champion(), POLICY)
    assert result.status is Status.FAILED
    assert "less profit than the champion" in result.reason
    assert standing.campaign_profit(challenger(), champion(), POLICY).status is Status.PASSED
    losing = with_figures("campaign_profit", value=-3.0, low=-9.0, high=3.0)
    assert standing.campaign_profit(challenger(evaluation=losing), None, POLICY).status is Status.FAILED
    unsure = with_figures("campaign_profit", value=3.0, low=-3.0, high=9.0)
    assert standing.campaign_profit(challenger(evaluation=unsure), None, POLICY).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("status", list(Status))
def test_the_readiness_table_speaks_for_itself(status: Status) -> None:
    assert standing.readiness_floors(challenger(evaluation=readiness(status)), None, POLICY).status is status


@pytest.mark.parametrize(
    "evaluation",
    [
        {},
        EVALUATED | {"metrics": {}},
        EVALUATED | {"heuristics": {}},
        EVALUATED | {"readiness": {"rows": []}},
        readiness("looks fine"),
        EVALUATED | {"readiness": None},
        EVALUATED | {"mean_probability": None},
        EVALUATED | {"mean_probability": True},
        EVALUATED | {"base_rate": float("nan")},
        EVALUATED | {"metrics": None},
        with_figures("ece", value=None),
        with_figures("roc_auc", value=float("nan")),
        with_figures("average_precision", low=None),
    ],
)
def test_missing_evidence_fails(evaluation: dict[str, Any]) -> None:
    verdict = judge_gates(challenger(evaluation=evaluation), champion(), POLICY)
    assert verdict.decision is Decision.REJECT
    assert "evidence" in verdict.reasons[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"quality": {}},
        {"quality": QUALITY | {"features": {}}},
        {"quality": QUALITY | {"features": {"success": None}}},
        {"drift": {}},
        {"drift": {"verdict": "fine", "share_drifted": 0.1, "reason": ""}},
        {"drift": STABLE | {"share_drifted": None}},
        {"as_ofs": ()},
        {"scores": replace(GOOD, slices={})},
    ],
)
def test_missing_evidence_beside_the_evaluation_fails_too(changes: dict[str, Any]) -> None:
    changes.setdefault("evaluation", EVALUATED)
    assert judge_gates(challenger(**changes), champion(), POLICY).decision is Decision.REJECT


def test_scores_of_other_pairs_are_no_comparison() -> None:
    other = replace(OLD, product_ids=OLD.product_ids[::-1])
    verdict = judge_gates(challenger(), champion(scores=other), POLICY)
    assert verdict.decision is Decision.REJECT
    for name in ("superiority", "non_inferiority", "slice_harm"):
        assert status_of(verdict, name) is Status.FAILED


def test_superiority_is_about_the_difference_and_its_sign() -> None:
    better = comparison.superiority(challenger(), champion(), POLICY)
    worse = comparison.superiority(challenger(scores=OLD), champion(scores=GOOD), POLICY)
    alike = comparison.superiority(challenger(scores=scores_of(noisy(1.0, seed=8))), champion(), POLICY)
    assert [result.status for result in (better, worse, alike)] == [
        Status.PASSED,
        Status.FAILED,
        Status.INCONCLUSIVE,
    ]
    gain = paired_bootstrap(GOOD, OLD, "average_precision", EVALUATION)
    assert better.observed | {"bound": 0} == {"value": gain.estimate, "low": gain.low, "high": gain.high, "bound": 0}


def test_more_looks_ask_for_a_clearer_gain() -> None:
    bounds = []
    for looks in (1, 2, 30, 1000):
        policy = Policy(PromotionSettings(looks=looks), EVALUATION, 28)
        bounds.append(comparison.superiority(challenger(), champion(), policy).observed["bound"])
    assert bounds[0] == paired_bootstrap(GOOD, OLD, "average_precision", EVALUATION).low
    assert sorted(bounds, reverse=True)[1:] == bounds[1:]
    gain = paired_bootstrap(GOOD, OLD, "average_precision", EVALUATION)
    # 3.1440 is the normal quantile of 1 - 0.025 / 30
    assert bounds[2] == pytest.approx(gain.estimate - 3.1440 * gain.samples.std(ddof=1), abs=1e-5)


def test_superiority_of_a_metric_where_less_is_better() -> None:
    policy = Policy(PromotionSettings(primary_metric="log_loss"), EVALUATION, 28)
    assert comparison.superiority(challenger(), champion(), policy).status is Status.PASSED
    assert comparison.superiority(challenger(scores=OLD), champion(scores=GOOD), policy).status is Status.FAILED


@pytest.mark.parametrize(
    ("age", "decision"), [(6, Decision.INCONCLUSIVE), (7, Decision.PROMOTE), (30, Decision.PROMOTE)]
)
def test_an_aged_champion_is_refreshed_by_what_is_not_worse(age: int, decision: Decision) -> None:
    slightly = scores_of(noisy(1.0) * 0.999)
    aged = champion(data_day=date.fromordinal(date(2011, 8, 31).toordinal() - age))
    verdict = judge_gates(challenger(scores=slightly), aged, POLICY)
    assert verdict.decision is decision
    if decision is Decision.PROMOTE:
        assert f"the champion's data are {age} days older: not being worse suffices" in verdict.reasons[0]


def test_an_aged_champion_is_not_replaced_by_what_is_worse() -> None:
    aged = champion(scores=GOOD, data_day=date(2011, 7, 1))
    verdict = judge_gates(challenger(scores=OLD), aged, POLICY)
    assert verdict.decision is Decision.REJECT
    assert status_of(verdict, "superiority") is Status.PASSED
    assert status_of(verdict, "non_inferiority") is Status.FAILED


def test_non_inferiority_names_each_metric_that_is_worse() -> None:
    result = comparison.non_inferiority(challenger(scores=OLD), champion(scores=GOOD), POLICY)
    assert result.status is Status.FAILED
    for metric in ("average_precision", "roc_auc", "log_loss"):
        assert f"worse than the champion: {metric} gains -" in result.reason
    assert set(result.observed) == set(PromotionSettings().guardrails)


def test_non_inferiority_cannot_tell_within_a_narrow_margin() -> None:
    policy = Policy(PromotionSettings(guardrails={"average_precision": 0.0}), EVALUATION, 28)
    same = challenger(scores=scores_of(noisy(1.0, seed=8)))
    assert comparison.non_inferiority(same, champion(), policy).status is Status.INCONCLUSIVE
    wide = Policy(PromotionSettings(guardrails={"average_precision": 0.5}), EVALUATION, 28)
    assert comparison.non_inferiority(same, champion(), wide).status is Status.PASSED


def test_harm_to_a_slice_is_named() -> None:
    result = comparison.slice_harm(challenger(scores=worse_for_one_country()), champion(), POLICY)
    assert result.status is Status.FAILED
    assert "log_loss of country=France gains -" in result.reason
    assert "United Kingdom" not in result.reason


def test_a_bad_loss_that_cannot_be_ruled_out_in_a_slice_is_a_doubt() -> None:
    """France is worse, though not so clearly that a test of its log loss says so."""
    probabilities = noisy(0.9, seed=3).copy()
    rows = np.flatnonzero(COUNTRY == "France")
    probabilities[rows] = noisy(1.6)[rows]
    candidate = challenger(scores=scores_of(probabilities))
    easy = {"margin": 1.0, "worst": {"roc_auc": 0.05}}
    policy = Policy(PromotionSettings.model_validate({"harm": easy}), EVALUATION, 28)
    result = comparison.slice_harm(candidate, champion(), policy)
    assert result.status is Status.INCONCLUSIVE
    assert "roc_auc of country=France gains -" in result.reason
    assert "a loss of 0.05 cannot be ruled out" in result.reason
    without = Policy(PromotionSettings.model_validate({"harm": easy | {"worst": {}}}), EVALUATION, 28)
    assert comparison.slice_harm(candidate, champion(), without).status is Status.PASSED


def test_slices_that_are_too_small_are_not_tested() -> None:
    strict = EVALUATION.model_copy(update={"slices": EVALUATION.slices.model_copy(update={"min_pairs": PAIRS + 1})})
    policy = Policy(PromotionSettings(), strict, 28)
    result = comparison.slice_harm(challenger(scores=worse_for_one_country()), champion(), policy)
    assert (result.status, result.observed) == (Status.PASSED, {})


def test_identical_slices_are_unharmed() -> None:
    result = comparison.slice_harm(challenger(scores=OLD), champion(), POLICY)
    assert result.status is Status.PASSED
    assert {row["p_value"] for row in result.observed.values()} == {1.0}


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, ["d", "a"]),  # Holm's own kind of example
        ({"a": 0.05}, ["a"]),
        ({"a": 0.051}, []),
        ({"a": 0.02, "b": 0.02, "c": 0.02}, []),
        ({"a": 0.01, "b": 0.02, "c": 0.04}, ["a", "b", "c"]),
        ({}, []),
    ],
)
def test_holm_steps_down(p_values: dict[str, float], rejected: list[str]) -> None:
    assert holm_rejected(p_values, 0.05) == rejected


def test_harmless_candidates_are_rarely_called_harmful() -> None:
    """The error rate over all slices, simulated: 40 candidates that differ from the champion by chance alone."""
    dimension = (CODES % 10).astype(str).astype(object)
    old = replace(OLD, slices={"group": dimension})
    false_alarms = 0
    policy = Policy(
        PromotionSettings.model_validate({"harm": {"margin": 0.0}}),
        EVALUATION.model_copy(update={"slices": EVALUATION.slices.model_copy(update={"min_customers": 10})}),
        28,
    )
    for seed in range(40):
        labels = (np.random.default_rng(100 + seed).random(PAIRS) < TRUTH).astype(np.int8)
        one = replace(old, labels=labels)
        other = replace(one, probabilities=noisy(1.0, seed=200 + seed))
        result = comparison.slice_harm(challenger(scores=other, evaluation=EVALUATED), champion(scores=one), policy)
        false_alarms += result.status is Status.FAILED
    assert false_alarms <= 6  # P(more than 6 of 40) is 0.3 % at a rate of 5 %


@pytest.mark.parametrize(
    ("problem", "replace_unscorable", "status"),
    [
        ("", False, Status.FAILED),
        ("", True, Status.FAILED),
        ("model xgboost needs feature 'x'", False, Status.FAILED),
        ("model xgboost needs feature 'x'", True, Status.PASSED),
    ],
)
def test_a_champion_that_could_not_be_scored_is_no_cold_start(
    problem: str, replace_unscorable: bool, status: Status
) -> None:
    policy = Policy(PromotionSettings(replace_unscorable=replace_unscorable), EVALUATION, 28)
    verdict = judge_gates(challenger(generation=3, champion_problem=problem), None, policy)
    assert status_of(verdict, "no_champion") is status
    assert "the champion of generation 3 could not be scored" in " ".join(verdict.reasons)


def test_the_primary_metric_is_guarded_too() -> None:
    with pytest.raises(ValueError, match="must hold the primary metric 'brier' too"):
        PromotionSettings(primary_metric="brier", guardrails={"roc_auc": 0.01})
    with pytest.raises(ValueError, match="negative margin"):
        PromotionSettings(guardrails={"average_precision": -0.01})
