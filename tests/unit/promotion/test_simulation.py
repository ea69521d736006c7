"""The simulation of the verdict's errors, on a world small enough to ask a few times: what it arranges is true."""

from __future__ import annotations

import numpy as np
import pytest

from evergreen.evaluation.ranking import Ranking
from evergreen.evaluation.scores import Scores
from evergreen.promotion import simulation
from evergreen.promotion.gates import Policy
from evergreen.promotion.simulation import (
    RealScores,
    Weakened,
    equal_models,
    equal_models_month,
    harmed_slices,
    rate,
    true_gain,
)
from evergreen.settings.evaluation import EvaluationSettings
from evergreen.settings.promotion import PromotionSettings

PAIRS, CUSTOMERS, MEMBERS = 6000, 300, 8
EVALUATION = EvaluationSettings.model_validate(
    {"resamples": 60, "slices": {"min_pairs": 400, "min_positives": 40, "min_customers": 20}}
)
POLICIES = {f"{looks}_looks": Policy(PromotionSettings(looks=looks), EVALUATION, 28) for looks in (1, 30)}


@pytest.fixture(scope="module")
def real() -> RealScores:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, CUSTOMERS, PAIRS)
    logits = rng.normal(-2.0, 1.2, PAIRS) + rng.normal(0, 0.5, CUSTOMERS)[codes]

    def seen(noise: float) -> np.ndarray:
        return 1 / (1 + np.exp(-logits - rng.normal(0, noise, PAIRS)))

    labels = (rng.random(PAIRS) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    members = np.stack([seen(0.4) for _ in range(MEMBERS)]).astype(np.float32)
    scores = Scores(
        np.array([f"c{code:03d}" for code in codes], dtype=object),
        np.array([f"p{row}" for row in range(PAIRS)], dtype=object),
        labels,
        members.mean(axis=0, dtype=np.float64),
        {"country": np.where(codes % 3 == 0, "France", "UK").astype(object)},
    )
    return RealScores(scores, members, seen(2.5), np.full(PAIRS, 1 / 14))


def test_a_drawn_holdout_counts_who_is_drawn_twice_as_two(real: RealScores) -> None:
    rows, owners = real.rows_of(np.array([7, 7, 2]))
    assert np.array_equal(np.unique(owners), [0, 1, 2])
    assert np.array_equal(rows[owners == 0], rows[owners == 1])
    assert set(real.codes[rows[owners == 2]]) == {2}
    assert len(rows) == 2 * (real.codes == 7).sum() + (real.codes == 2).sum()
    assert simulation.RealScores.at(real, rows, owners, np.zeros(len(rows))).labels.tolist() == (
        real.scores.labels[rows].tolist()
    )


def test_bags_of_a_customer_take_other_members_each(real: RealScores) -> None:
    rows, owners = real.rows_of(np.arange(real.customers))
    one, other = real.bags(rows, owners, (range(3), range(3, 6)), np.random.default_rng(2))
    assert not np.isclose(one, other).any()
    both = real.bags(rows, owners, (range(MEMBERS),), np.random.default_rng(3))[0]
    assert both == pytest.approx(real.scores.probabilities[rows], rel=1e-6), "all members are the mean of all"
    single = real.bags(rows, owners, (range(1),), np.random.default_rng(4))[0]
    taken = np.isclose(single, real.members[:, rows], rtol=1e-6).argmax(axis=0)
    for customer in range(5):
        assert len(set(taken[owners == customer])) == 1, "a customer keeps a member in all rows"
    assert len(set(taken)) == MEMBERS


def test_a_weakened_model_loses_what_was_asked_and_stays_calibrated(real: RealScores) -> None:
    rows = np.arange(PAIRS)
    weak = Weakened.by(real, rows, 0.02)
    seen = weak.see(real, rows)
    lost = (
        Ranking(real.scores.labels, real.scores.probabilities).weigh().roc_auc()
        - Ranking(real.scores.labels, seen).weigh().roc_auc()
    )
    assert lost == pytest.approx(0.02, abs=0.001)
    assert seen.mean() == pytest.approx(real.scores.labels.mean(), rel=0.01)
    assert weak.precision_loss > 0


def test_windows_hold_what_the_probabilities_say_and_share_all_but_a_day(real: RealScores) -> None:
    rows, owners = real.rows_of(np.arange(real.customers))
    draws = [list(simulation._windows(real, rows, owners, np.random.default_rng(seed))) for seed in range(20)]
    windows = draws[0]
    assert len(windows) == 30
    likely = real.scores.probabilities[rows] > 0.3
    for chosen in (likely, ~likely):
        bought = np.mean([one[0][chosen] for one in draws])
        assert bought == pytest.approx(real.scores.probabilities[rows][chosen].mean(), rel=0.05)
    assert np.mean(windows[0] != windows[1]) < 0.02
    assert np.mean(windows[0] != windows[29]) > 0.1


def test_equal_models_are_seldom_promoted_and_better_ones_often(real: RealScores) -> None:
    """Bounds that a sound simulation of 40 trials misses once in ten thousand times."""
    equal = equal_models(real, POLICIES, 40, 150, seed=6)
    assert equal["1_looks"]["superior"]["count"] <= 6
    assert equal["30_looks"]["superior"]["count"] <= equal["1_looks"]["superior"]["count"]
    assert equal["30_looks"]["promoted"]["count"] <= 2
    better = true_gain(real, POLICIES, 0.06, 10, seed=7)
    assert better["1_looks"]["superior"]["count"] >= 9
    assert better["mean_gain_roc_auc"] == pytest.approx(0.06, abs=0.01)
    assert better["true_gain_average_precision"] > 0


def test_a_month_of_equal_challengers_is_counted_by_days(real: RealScores) -> None:
    found = equal_models_month(real, POLICIES, 3, 100, seed=8)
    for name in POLICIES:
        for what in ("superior", "promoted"):
            counts = [found[name][f"{what}_within_{days}_days"]["count"] for days in (1, 6, 30)]
            assert counts == sorted(counts)
        assert found[name]["promoted_within_30_days"]["count"] <= found[name]["superior_within_30_days"]["count"]
    strict, usual = (found[name]["superior_within_30_days"]["count"] for name in ("30_looks", "1_looks"))
    assert strict <= usual


def test_a_harmed_slice_is_refused(real: RealScores) -> None:
    found = harmed_slices(real, POLICIES["30_looks"], 0.15, 4, seed=9)
    assert [one["slice"] for one in found["slices"]] == ["UK", "France"]
    assert found["refused"]["share"] == 1.0
    assert found["by_slice_harm"]["share"] == 1.0


@pytest.mark.parametrize(
    ("count", "trials", "low", "high"), [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)]
)
def test_rates_have_exact_intervals(count: int, trials: int, low: float, high: float) -> None:
    """Figures from the table of Clopper and Pearson."""
    assert rate(count, trials) == {"count": count, "share": count / trials, "low": low, "high": high}
