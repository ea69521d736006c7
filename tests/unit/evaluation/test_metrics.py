from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from evergreen.errors import EvaluationError
from evergreen.evaluation.metrics import METRICS, Panel, measure
from evergreen.evaluation.ranking import Ranking, calibration_error
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import EvaluationSettings

DEFAULT = EvaluationSettings()


@st.composite
def labelled_pairs(draw: st.DrawFn) -> Scores:
    """Few pairs of few customers on a coarse grid of probabilities: ties everywhere, both classes present."""
    rows = draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 1)), min_size=2, max_size=40).filter(
            lambda rows: 0 < sum(row[2] for row in rows) < len(rows)
        )
    )
    customers, grid, labels = (np.array(column) for column in zip(*rows, strict=True))
    names = np.array([f"c{code}" for code in customers], dtype=object)
    return Scores(names, np.arange(len(rows)).astype(str).astype(object), labels.astype(np.int8), grid / 8)


@given(labelled_pairs())
@settings(max_examples=150, deadline=None)
def test_metrics_agree_with_scikit_learn_on_ties(scores: Scores) -> None:
    values = measure(scores, DEFAULT)
    labels, probabilities = scores.labels, scores.probabilities
    said_yes = probabilities >= DEFAULT.policy.decision_threshold
    expected = {
        "roc_auc": sk.roc_auc_score(labels, probabilities),
        "average_precision": sk.average_precision_score(labels, probabilities),
        "average_precision_lift": sk.average_precision_score(labels, probabilities) / labels.mean(),
        "log_loss": sk.log_loss(labels, probabilities, labels=[0, 1]),
        "brier": sk.brier_score_loss(labels, probabilities),
        "accuracy": sk.accuracy_score(labels, said_yes),
        "precision": sk.precision_score(labels, said_yes, zero_division=0),
        "recall": sk.recall_score(labels, said_yes),
        "f1": sk.f1_score(labels, said_yes),
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@given(labelled_pairs())
@settings(max_examples=150, deadline=None)
def test_lists_agree_with_scikit_learn_and_with_every_order_of_ties(scores: Scores) -> None:
    """NDCG by scikit-learn (which averages over ties); recall@10 by the mean over shuffled orders."""
    values = measure(scores, DEFAULT)
    ndcg, recall = [], []
    rng = np.random.default_rng(0)
    for customer in np.unique(scores.customer_ids.astype(str)):
        own = scores.take(scores.customer_ids == customer)
        if not own.labels.any():
            continue
        if len(own) == 1:
            ndcg.append(1.0)
        else:
            ndcg.append(sk.ndcg_score(own.labels[None], own.probabilities[None], k=10))
        shuffles = [rng.permutation(len(own)) for _ in range(300)]
        lists = [order[np.argsort(-own.probabilities[order], kind="stable")][:10] for order in shuffles]
        recall.append(np.mean([own.labels[top].sum() for top in lists]) / own.labels.sum())
    assert values["ndcg_at_10"] == pytest.approx(np.mean(ndcg), abs=1e-12)
    assert values["recall_at_10"] == pytest.approx(np.mean(recall), abs=0.05)


def test_ndcg_and_recall_without_ties_equal_the_textbook() -> None:
    """One customer buys what stands at places 1, 3 and 12; another bought nothing and does not count."""
    labels = np.zeros(30, np.int8)
    labels[[0, 2, 11]] = 1
    customers = np.array(["a"] * 15 + ["b"] * 15, dtype=object)
    scores = Scores(customers, customers, labels, np.linspace(0.9, 0.1, 30))
    values = measure(scores, DEFAULT)
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert values["ndcg_at_10"] == pytest.approx((1 + 1 / np.log2(4)) / ideal)
    assert values["recall_at_10"] == pytest.approx(2 / 3)


def test_the_order_of_rows_changes_nothing(make_scores) -> None:
    scores = make_scores(3000, 80, digits=2)
    shuffled = scores.take(np.random.default_rng(1).permutation(len(scores)))
    assert measure(shuffled, DEFAULT) == pytest.approx(measure(scores, DEFAULT), rel=1e-12)


@pytest.mark.parametrize("digits", [None, 2])
def test_weights_equal_repeated_customers(make_scores, digits: int | None) -> None:
    """A resample by counts has the metrics of the same resample with its rows copied, a new customer for each copy."""
    scores = make_scores(4000, 60, digits=digits)
    panel = Panel(scores, DEFAULT)
    counts = np.random.default_rng(5).integers(0, 4, len(panel.customers))
    rows, names = [], []
    for code, count in enumerate(counts):
        own = np.flatnonzero(scores.customer_ids == panel.customers[code])
        for copy in range(count):
            rows.append(own)
            names += [f"{panel.customers[code]}/{copy}"] * len(own)
    copied = scores.take(np.concatenate(rows))
    copied = Scores(np.array(names, dtype=object), copied.product_ids, copied.labels, copied.probabilities)
    assert panel.measure(counts.astype(float)) == pytest.approx(measure(copied, DEFAULT), rel=1e-9)


def test_calibration_error_is_the_naive_one_over_bins_of_equal_mass(make_scores) -> None:
    scores = make_scores(3000, 50)
    table = Ranking(scores.labels, scores.probabilities).weigh().calibration(10)
    order = np.argsort(scores.probabilities)
    bins = np.array_split(order, 10)
    gaps = [abs(scores.probabilities[rows].mean() - scores.labels[rows].mean()) for rows in bins]
    assert table[:, 0] == pytest.approx([300] * 10)
    assert (np.diff(table[:, 1]) > 0).all()
    assert calibration_error(table) == pytest.approx(np.mean(gaps))


def test_one_large_tie_fills_one_bin_whole() -> None:
    labels = np.array([0, 1] * 50, dtype=np.int8)
    table = Ranking(labels, np.full(100, 0.3)).weigh().calibration(10)
    assert table[table[:, 0] > 0].tolist() == [[100, pytest.approx(0.3), 0.5]]
    assert calibration_error(table) == pytest.approx(0.2)


def test_halved_probabilities_keep_the_ranking_and_lose_the_calibration(make_scores) -> None:
    scores = make_scores(20_000, 300)
    halved = Scores(scores.customer_ids, scores.product_ids, scores.labels, scores.probabilities / 2)
    before, after = measure(scores, DEFAULT), measure(halved, DEFAULT)
    assert after["roc_auc"] == before["roc_auc"]
    assert after["ece"] == pytest.approx(scores.labels.mean() / 2, rel=0.1)
    assert after["ece"] > 4 * before["ece"]


def test_profit_by_threshold_and_by_list() -> None:
    """Two customers; margin 4, contact 0.4, threshold 0.1."""
    customers = np.array(["a", "a", "a", "b", "b"], dtype=object)
    scores = Scores(customers, customers, np.array([1, 0, 1, 0, 1], np.int8), np.array([0.5, 0.1, 0.05, 0.2, 0.01]))
    by_threshold = measure(scores, DEFAULT)["campaign_profit"]
    top_k = EvaluationSettings.model_validate({"policy": {"rule": "top_k", "top_k": 1}})
    by_list = measure(scores, top_k)["campaign_profit"]
    assert by_threshold == pytest.approx((1 * 4 - 3 * 0.4) / 2 * 1000)
    assert by_list == pytest.approx((1 * 4 - 2 * 0.4) / 2 * 1000)


def test_a_threshold_that_is_given_beats_the_break_even() -> None:
    assert EvaluationSettings().policy.decision_threshold == pytest.approx(0.1)
    assert EvaluationSettings.model_validate({"policy": {"threshold": 0.3}}).policy.decision_threshold == 0.3
    assert EvaluationSettings.model_validate({"policy": {"cost_per_contact": 9.0}}).policy.decision_threshold == 1.0


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        (0, {"roc_auc", "average_precision", "average_precision_lift", "recall", "f1", "ndcg_at_10", "recall_at_10"}),
        (1, {"roc_auc"}),
    ],
)
def test_what_one_class_cannot_define_is_nan(label: int, undefined: set[str]) -> None:
    names = np.array(["a", "b"], dtype=object)
    values = measure(Scores(names, names, np.full(2, label, np.int8), np.array([0.01, 0.02])), DEFAULT)
    assert {name for name, value in values.items() if np.isnan(value)} == undefined
    assert set(values) == set(METRICS)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "no pairs"),
        ([0, 2], [0.1, 0.2], "labels are"),
        ([0, 1], [0.1, float("nan")], "1 of 2 probabilities are not in 0..1, such as nan"),
        ([0, 1], [0.1, 1.5], "such as 1.5"),
    ],
)
def test_scores_that_say_nothing_are_refused(labels: list[int], probabilities: list[float], message: str) -> None:
    names = np.array(["a"] * len(labels), dtype=object)
    with pytest.raises(EvaluationError, match=message):
        measure(Scores(names, names, np.array(labels, np.int8), np.array(probabilities)), DEFAULT)


@pytest.mark.parametrize("digits", [None, 2], ids=["no ties", "ties"])
def test_many_weightings_at_a_time_equal_one_after_the_other(make_scores, quick, digits, monkeypatch) -> None:
    monkeypatch.setattr("evergreen.evaluation.metrics.RANKED_CHUNK", 5_000)  # several steps
    panel = Panel(make_scores(1500, 40, digits=digits), quick)
    weights = np.random.default_rng(2).poisson(1.0, (len(panel.customers), 12)).astype(np.float64)
    weights[:, 3] = 0  # nobody: no metric is defined
    many = panel.measure_many(weights)
    for draw in range(12):
        one = panel.measure(weights[:, draw])
        assert {name: values[draw] for name, values in many.items()} == pytest.approx(one, rel=1e-12, nan_ok=True)
