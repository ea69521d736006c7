from __future__ import annotations

import copy
import hashlib

import pytest

from evergreen.evaluation.card import model_card
from evergreen.evaluation.page import write_card
from evergreen.evaluation.recommendations import recommendations
from evergreen.evaluation.report import evaluate

SECTIONS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
    "Ethical considerations", "Caveats and recommendations",
]  # fmt: skip
EXPLANATIONS = {
    "method": "TreeSHAP, exact",
    "space": "log-odds before calibration",
    "rows": 3000,
    "global": [{"feature": "pair_recency_days", "mean_abs": 0.4, "share": 0.4, "rank": 1}],
    "random_probe": {"rank": 82, "of": 134, "share": 0.001},
}


@pytest.fixture
def evidence(make_scores, quick) -> dict:
    return {
        "model": {
            "name": "buy-it-again", "version": "3", "bundle_digest": "b" * 64, "candidate": "xgboost",
            "params": {"bags": 3}, "frameworks": {"xgboost": "3.2.0"},
        },
        "data_day": "2011-08-31",
        "training_set": {
            "digest": "d" * 64, "as_ofs": ["2011-06-30", "2011-07-07"], "holdout": "2011-08-04",
            "rows": {"train": 1000, "early_stopping": 100},
        },
        "tables": {"pair_features": 4, "transactions": 9},
        "code": "c" * 64, "lock": "l" * 64, "settings": "s" * 64,
        "quality": {"features": {"success": True}, "transactions": {"success": False}},
        "drift": {"own": {"verdict": "drifted", "share_drifted": 0.6, "reason": "60% of the columns"}},
        "evaluation": evaluate(make_scores(3000, 100), quick, {"frequency": make_scores(3000, 100)}),
        "explanations": EXPLANATIONS,
    }  # fmt: skip


def test_the_sections_are_the_standard_ones(evidence: dict) -> None:
    card = model_card(evidence)
    assert [section.title for section in card.sections] == SECTIONS
    assert [line[3:] for line in card.markdown().splitlines() if line.startswith("## ")] == SECTIONS
    assert all(section.lines for section in card.sections)


def test_what_it_says_is_the_evidence(evidence: dict) -> None:
    text = model_card(evidence).markdown()
    for said in (
        "version 3", "b" * 64, "bags 3", "2011-08-04", "1,000 train", "transactions FAILED",
        "pair_features at version 4",
        "| ROC AUC |", "| frequency |", "country: France", "TreeSHAP, exact over 3,000 pairs", "ranks 82 of 134",
        "| pair_recency_days | 40.0% |", "The data drifted (60% of the columns)",
    ):  # fmt: skip
        assert said in text, said


def test_the_digest_is_of_the_text_and_changes_with_it(evidence: dict, tmp_path) -> None:
    card = model_card(evidence)
    file = card.write(tmp_path / "deep" / "card.md")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card.digest == model_card(copy.deepcopy(evidence)).digest
    evidence["evaluation"]["metrics"]["roc_auc"]["value"] += 0.01
    assert model_card(evidence).digest != card.digest


def test_what_is_missing_is_not_made_up(evidence: dict) -> None:
    for name in ("explanations", "drift", "quality"):
        del evidence[name]
    text = model_card(evidence).markdown()
    assert "Explained by" not in text
    assert "Checks of the data: not reported." in text


def test_the_widest_gap_between_slices_is_told(evidence: dict) -> None:
    row = {"dimension": "country", "slice": "France", "metric": "recall", "gap": -0.12, "standard_error": 0.03}
    narrow = row | {"gap": 0.02, "slice": "Spain"}
    evidence["fairness"] = {"rows": [narrow, row, row | {"gap": None}, row | {"gap": "nan"}]}
    assert (
        "of 2 that a gate tests: recall of country France, -0.120 (standard error 0.0300)"
        in model_card(evidence).markdown()
    )


def test_names_bring_no_markup_along(evidence: dict, tmp_path) -> None:
    evidence["evaluation"]["slices"][0]["slice"] = "<script>|"
    card = model_card(evidence)
    assert "<script>" not in card.markdown()
    assert "<script>" not in write_card(card, tmp_path / "card.html").read_text()


def test_advice_names_what_is_weak(evidence: dict) -> None:
    evaluation = evidence["evaluation"]
    evaluation["mean_probability"] = 1.3 * evaluation["base_rate"]
    weak = evaluation["slices"][0]
    weak["metrics"]["roc_auc"] = {"value": 0.5, "low": 0.45, "high": 0.55}
    gates = [{"name": "leakage", "status": "failed", "reason": "roc_auc is 0.99"}]
    advice = recommendations(evaluation, gates, evidence["drift"]["own"], EXPLANATIONS)
    assert advice[0] == "leakage: roc_auc is 0.99."
    text = " ".join(advice)
    assert "1.30 times the share bought again, above it" in text
    assert f"“{weak['slice']}”" in text
    assert "The data drifted" in text
    assert "pair_recency_days alone carries 40%" in text


def test_where_all_is_well_there_is_no_advice(evidence: dict) -> None:
    evaluation = evidence["evaluation"] | {"slices": []}
    evaluation["readiness"] = {"status": "passed", "rows": []}
    evaluation["mean_probability"] = evaluation["base_rate"]
    assert recommendations(evaluation) == []
