from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from evergreen.errors import EvaluationError
from evergreen.evaluation.intervals import paired_gains
from evergreen.evaluation.metrics import METRICS, measure
from evergreen.evaluation.page import write_html
from evergreen.evaluation.report import evaluate, model_scores
from evergreen.evaluation.scores import Scores

VOID = {"meta", "br", "line", "circle", "polyline"}


def noisier(scores: Scores, seed: int) -> Scores:
    noise = np.random.default_rng(seed).normal(0, 2, len(scores))
    logits = np.log(scores.probabilities / (1 - scores.probabilities)) + noise
    return Scores(scores.customer_ids, scores.product_ids, scores.labels, 1 / (1 + np.exp(-logits)), scores.slices)


@pytest.fixture
def scores(make_scores) -> Scores:
    return make_scores(5000, 150)


@pytest.fixture
def evaluation(scores: Scores, quick) -> dict:
    return evaluate(scores, quick, {"frequency": noisier(scores, 1), "recency": noisier(scores, 2)})


def test_the_document_is_plain_json(evaluation: dict) -> None:
    assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation


def test_every_metric_stands_with_its_interval(evaluation: dict, scores: Scores, quick) -> None:
    expected = measure(scores, quick)
    assert set(evaluation["metrics"]) == set(METRICS)
    for name, figures in evaluation["metrics"].items():
        assert figures["value"] == pytest.approx(expected[name])
        assert figures["low"] <= figures["value"] <= figures["high"]
    assert set(evaluation["heuristics"]) == {"frequency", "recency"}
    assert evaluation["heuristics"]["frequency"]["roc_auc"]["high"] < evaluation["metrics"]["roc_auc"]["low"]


def test_the_confusion_matrix_is_scikit_learns(evaluation: dict, scores: Scores) -> None:
    matrix = confusion_matrix(scores.labels, scores.probabilities >= evaluation["threshold"])
    found = evaluation["confusion_matrix"]
    assert [
        [found["true_negatives"], found["false_positives"]],
        [found["false_negatives"], found["true_positives"]],
    ] == (matrix.tolist())


def test_the_roc_curve_lies_on_scikit_learns(evaluation: dict, scores: Scores) -> None:
    x, y = np.array(evaluation["curves"]["model"]["roc"]).T
    false_share, recall, _ = roc_curve(scores.labels, scores.probabilities, drop_intermediate=False)
    exact = {(round(a, 5), round(b, 5)) for a, b in zip(false_share, recall, strict=True)}
    assert {(a, b) for a, b in zip(x, y, strict=True)} <= exact
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert 50 < len(x) <= 101


def test_the_calibration_curve_holds_all_pairs(evaluation: dict, scores: Scores) -> None:
    curve = evaluation["calibration_curve"]
    assert sum(bin["pairs"] for bin in curve) == len(scores)
    assert sum(bin["pairs"] * bin["bought"] for bin in curve) == pytest.approx(scores.labels.sum())
    assert sum(bin["pairs"] * bin["predicted"] for bin in curve) == pytest.approx(scores.probabilities.sum())
    assert all(bin["low"] <= bin["bought"] <= bin["high"] for bin in curve)


def test_the_campaign_curves_are_counted_from_the_top(evaluation: dict, scores: Scores, quick) -> None:
    curves = evaluation["curves"]["model"]
    order = np.argsort(-scores.probabilities)
    found = np.cumsum(scores.labels[order])
    policy, customers = quick.policy, len(set(scores.customer_ids))
    for share, reached in curves["gain"][1:]:
        assert reached == pytest.approx(found[round(share * len(scores)) - 1] / found[-1], abs=1e-4)
    for share, lift in curves["lift"]:
        assert lift == pytest.approx(found[round(share * len(scores)) - 1] / found[-1] / share, rel=1e-3)
    for share, profit in curves["profit"][1:]:
        contacts = round(share * len(scores))
        earned = found[contacts - 1] * policy.margin_per_conversion - contacts * policy.cost_per_contact
        assert profit == pytest.approx(earned * 1000 / customers, rel=1e-3, abs=1)
    assert curves["lift"][-1] == [1.0, 1.0]
    assert curves["gain"][0] == curves["profit"][0] == [0.0, 0.0]


def test_heuristics_on_other_pairs_are_refused(scores: Scores, quick) -> None:
    with pytest.raises(EvaluationError, match="score the same holdout"):
        evaluate(scores, quick, {"frequency": scores.take(np.arange(10))})


def test_one_class_is_evaluated_as_far_as_it_goes(scores: Scores, quick, tmp_path: Path) -> None:
    nothing = Scores(scores.customer_ids, scores.product_ids, np.zeros_like(scores.labels), scores.probabilities)
    evaluation = evaluate(nothing, quick, {})
    assert evaluation["metrics"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert evaluation["metrics"]["brier"]["value"] > 0
    assert evaluation["readiness"]["status"] == "failed"
    assert "<b>-</b>" in write_html(evaluation, tmp_path / "page.html").read_text()


def test_model_scores_come_from_a_labelled_frame() -> None:
    frame = pd.DataFrame(
        {
            "customer_id": ["a", "b"],
            "product_id": ["x", "y"],
            "label": [0, 1],
            "country": ["France", None],
            "customer_tenure_days": [10, 400],
            "price_tier": ["low", "high"],
            "product_age_days": [5.0, 500.0],
        }
    )
    scores = model_scores(lambda features: features["product_age_days"].to_numpy() / 1000, frame)
    assert scores.probabilities.tolist() == [0.005, 0.5]
    assert scores.labels.tolist() == [0, 1]
    assert scores.slices["country"].tolist() == ["France", "unknown"]


class Tags(HTMLParser):
    """Checks that every tag that is opened is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def page(evaluation: dict, scores: Scores, quick, tmp_path: Path) -> str:
    champion = noisier(scores, 4)
    return write_html(
        evaluation,
        tmp_path / "deep" / "page.html",
        title="Challenger <12>",
        facts={"Holdout": "as of 2011-08-04"},
        champion=evaluate(champion, quick, {}),
        gains={name: gain.as_dict() for name, gain in paired_gains(scores, champion, quick).items()},
    ).read_text()


def test_the_page_is_well_formed_and_needs_nothing_else(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.count("svg") > 20
    assert not re.search(r"https?://|<script|<link|<img|nan", page)


def test_the_page_says_what_the_evaluation_says(page: str, evaluation: dict) -> None:
    assert "Challenger &lt;12&gt;" in page
    assert "as of 2011-08-04" in page
    assert f"{evaluation['metrics']['roc_auc']['value']:.4f}" in page
    for metric in METRICS.values():
        assert metric.title in page
    for row in evaluation["slices"]:
        assert f"<td>{row['slice']}</td>" in page
    for row in evaluation["readiness"]["rows"]:
        assert row["observed"] in page
    assert '<td class="better">better</td>' in page


EXPLANATIONS = {
    "method": "TreeSHAP, exact",
    "space": "log-odds before calibration",
    "rows": 300,
    "global": [{"feature": f"feature <{n}>", "mean_abs": 0.1, "share": 0.05, "rank": n} for n in range(1, 21)],
    "additivity": {"max_error": 1e-7, "averaging_gap": 0.1, "rows": 300},
    "random_probe": {"rank": 82, "of": 134, "share": 0.0015},
    "dependence": [
        {
            "feature": "pair_recency_days", "kind": "number", "dots": [[1.0, 0.2], [9.0, -0.2]],
            "partial_dependence": [[1.0, 0.1], [9.0, 0.05]], "ale": [[1.0, 0.02], [9.0, -0.02]],
        },
        {"feature": "gone", "kind": "number", "dots": [], "partial_dependence": [], "ale": []},
        {"feature": "country", "kind": "category", "dots": [], "partial_dependence": [["France", 0.1]], "ale": []},
    ],
    "interactions": [
        {
            "features": ["one", "two"], "strength": 0.3,
            "x": [1.0, 2.0], "y": ["a", "b"], "surface": [[0.0, 1.0], [1.0, 0.0]],
        },
        {"features": ["one", "three"], "strength": 0.0, "x": [1.0], "y": [1.0], "surface": [[0.0]]},
    ],
    "examples": [
        {
            "customer_id": "12583", "product_id": "22423", "probability": 0.7,
            "reasons": [
                {"text": "bought every 14 days, last 12 days ago", "raises": True},
                {"text": "costs 10% more than last paid", "raises": False},
            ],
        }
    ],
}  # fmt: skip
DRIFT = {
    "verdict": "drifted", "reason": "61% of the columns", "share_drifted": 0.61,
    "reference": "the champion's training data",
    "prediction": {"statistic": 0.31, "threshold": 0.2},
    "columns": [{"column": "pair_recency_days", "test": "psi", "statistic": 0.5, "threshold": 0.2, "drifted": True}],
}  # fmt: skip


def test_the_page_tells_why_and_what_was_decided(evaluation: dict, tmp_path: Path) -> None:
    gates = [
        {"name": "data_quality", "status": "passed", "observed": {"features": True, "share": 0.12345}, "reason": ""},
        {"name": "leakage", "status": "failed", "observed": None, "reason": "roc_auc is 0.99 <script>"},
    ]
    page = write_html(
        evaluation, tmp_path / "page.html", verdict=("reject", ["leakage: roc_auc is 0.99"]), gates=gates, drift=DRIFT,
        explanations=EXPLANATIONS,
    ).read_text()  # fmt: skip
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    for said in (
        'class="verdict reject"', "features yes, share 0.1235", "61 % of the columns", "82 of 134", "feature &lt;1&gt;",
        "and 5 more features", "bought every 14 days, last 12 days ago", "one (across) with two (upwards): 0.30",
    ):  # fmt: skip
        assert said in page, said
    assert "one (across) with three" not in page, "what adds up is no interaction"
    assert "<script" not in page
    assert not re.search(r"https?://|nan", page)


def test_without_a_champion_the_page_says_so(evaluation: dict, tmp_path: Path) -> None:
    page = write_html(evaluation, tmp_path / "page.html").read_text()
    assert "There is no champion yet" in page
    assert '<th class="n">Gain</th>' not in page
