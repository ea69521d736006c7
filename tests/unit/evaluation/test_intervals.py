from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from evergreen.errors import EvaluationError
from evergreen.evaluation.intervals import bootstrap, paired_bootstrap, paired_gains, percentile_interval
from evergreen.evaluation.metrics import METRICS, Panel
from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import EvaluationSettings

LEVEL = 0.95


def with_probabilities(scores: Scores, probabilities: np.ndarray) -> Scores:
    return Scores(scores.customer_ids, scores.product_ids, scores.labels, probabilities, scores.slices)


def test_intervals_equal_those_of_copied_rows(make_scores) -> None:
    """The oracle draws customers, copies their rows and asks scikit-learn."""
    scores = make_scores(2000, 100, digits=3)
    settings = EvaluationSettings(resamples=400)
    ours = bootstrap(Panel(scores, settings)).intervals(LEVEL)
    rng = np.random.default_rng(99)
    rows_of = [np.flatnonzero(scores.customer_ids == name) for name in np.unique(scores.customer_ids.astype(str))]
    samples = []
    for _ in range(400):
        rows = np.concatenate([rows_of[code] for code in rng.integers(0, len(rows_of), len(rows_of))])
        labels, probabilities = scores.labels[rows], scores.probabilities[rows]
        samples.append((roc_auc_score(labels, probabilities), average_precision_score(labels, probabilities)))
    for metric, column in zip(("roc_auc", "average_precision"), np.array(samples).T, strict=True):
        expected = np.quantile(column, [0.025, 0.975])
        width = expected[1] - expected[0]
        assert [ours[metric].low, ours[metric].high] == pytest.approx(expected, abs=0.2 * width)


@pytest.mark.parametrize(("clusters", "holds"), [("customers", True), ("pairs", False)])
def test_intervals_hold_the_truth_as_often_as_they_say(make_scores, clusters: str, holds: bool) -> None:
    """Customers differ much here. Drawing pairs as if they were independent is the control: it holds too seldom."""
    settings = EvaluationSettings(resamples=100)
    truth = make_scores(400_000, 20_000, seed=1000, spread=2.0)
    expected = float(np.mean((truth.probabilities - truth.labels) ** 2))
    hits = 0
    for seed in range(100):
        scores = make_scores(1500, 60, seed=seed, spread=2.0)
        if clusters == "pairs":
            scores = Scores(scores.product_ids, scores.product_ids, scores.labels, scores.probabilities)
        panel = Panel(scores, settings)
        draws = np.random.default_rng(seed)
        weights = [
            np.bincount(draws.integers(0, len(panel.customers), len(panel.customers)), minlength=len(panel.customers))
            for _ in range(settings.resamples)
        ]
        samples = np.array([panel.measure(one.astype(float), ("brier",))["brier"] for one in weights])
        interval = percentile_interval(panel.measure()["brier"], samples, LEVEL)
        hits += interval.low <= expected <= interval.high
    assert (hits >= 85) is holds


def test_the_same_seed_gives_the_same_intervals_in_any_row_order(make_scores, quick) -> None:
    scores = make_scores(3000, 100)
    shuffled = scores.take(np.random.default_rng(1).permutation(len(scores)))
    one, other = (bootstrap(Panel(each, quick)).intervals(LEVEL) for each in (scores, shuffled))
    for metric in METRICS:
        assert other[metric].as_dict() == pytest.approx(one[metric].as_dict(), rel=1e-9)


def test_every_interval_holds_its_estimate(make_scores, quick) -> None:
    for interval in bootstrap(Panel(make_scores(2000, 80), quick)).intervals(LEVEL).values():
        assert interval.low <= interval.value <= interval.high


def test_a_better_challenger_gains_on_every_kind_of_metric(make_scores, quick) -> None:
    """Positive is better, also for log loss, Brier score and ECE, where less is better."""
    good = make_scores(20_000, 400)
    noise = np.random.default_rng(3).normal(0, 1.5, len(good))
    logits = np.log(good.probabilities / (1 - good.probabilities)) + noise
    gains = paired_gains(good, with_probabilities(good, 1 / (1 + np.exp(-logits))), quick)
    for metric in ("roc_auc", "average_precision", "log_loss", "brier", "ece", "ndcg_at_10", "campaign_profit"):
        assert gains[metric].estimate > 0
        assert gains[metric].low > 0
    worse = paired_bootstrap(with_probabilities(good, 1 / (1 + np.exp(-logits))), good, "log_loss", quick)
    assert worse.estimate == pytest.approx(-gains["log_loss"].estimate)
    assert worse.high < 0


def test_a_model_gains_nothing_over_itself(make_scores, quick) -> None:
    scores = make_scores(2000, 50)
    gain = paired_bootstrap(scores, scores, "roc_auc", quick)
    assert gain.as_dict() == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_pairing_cancels_what_both_share(make_scores) -> None:
    """The interval of the difference is narrower than either model's own."""
    settings = EvaluationSettings(resamples=200)
    scores = make_scores(10_000, 100, spread=1.5)
    slightly = np.clip(scores.probabilities * np.random.default_rng(0).uniform(0.9, 1.1, len(scores)), 0, 1)
    low, high = paired_bootstrap(with_probabilities(scores, slightly), scores, "log_loss", settings).interval()
    alone = bootstrap(Panel(scores, settings)).interval("log_loss", LEVEL)
    assert high - low < 0.2 * (alone.high - alone.low)


def test_more_confidence_is_a_wider_interval(make_scores, quick) -> None:
    scores = make_scores(3000, 100)
    gain = paired_bootstrap(scores, with_probabilities(scores, scores.probabilities**1.3), "brier", quick)
    narrow, usual, wide = gain.interval(0.6), gain.interval(), gain.interval(0.99)
    assert wide[0] <= usual[0] <= narrow[0] <= narrow[1] <= usual[1] <= wide[1]
    assert usual == (gain.low, gain.high)


def test_other_pairs_are_refused(make_scores, quick) -> None:
    scores = make_scores(1000, 30)
    others = {
        "compared with 999": scores.take(np.arange(999)),
        "customer_ids of": scores.take(np.arange(1000)[::-1]),
        "product_ids of 1 of 1,000": Scores(
            scores.customer_ids, np.append(scores.product_ids[:-1], "x"), scores.labels, scores.probabilities
        ),
        "labels of 1,000": Scores(scores.customer_ids, scores.product_ids, 1 - scores.labels, scores.probabilities),
    }
    for message, other in others.items():
        with pytest.raises(EvaluationError, match=message):
            paired_bootstrap(scores, other, "roc_auc", quick)


def test_a_class_too_rare_for_resampling_has_no_interval(quick) -> None:
    """A single positive is missing from a third of the resamples."""
    names = np.array([f"c{number}" for number in range(40)], dtype=object)
    labels = np.zeros(40, np.int8)
    labels[3] = 1
    interval = bootstrap(Panel(Scores(names, names, labels, np.linspace(0.1, 0.4, 40)), quick)).interval(
        "roc_auc", LEVEL
    )
    assert interval.as_dict() == {"value": pytest.approx(3 / 39), "low": None, "high": None}
