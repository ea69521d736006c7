"""Broken features: what a model loses is what it leans on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evergreen.evaluation.robustness import robustness
from evergreen.settings.checks import RobustnessSettings

FEATURES = [("a", "number"), ("b", "number"), ("month", "number"), ("constant", "number"), ("kind", "category")]


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    signal = rng.normal(size=4000)
    return pd.DataFrame(
        {
            "a": signal,
            "b": signal + rng.normal(size=4000),
            "month": 8.0,
            "constant": 1.0,
            "kind": rng.choice(["x", "y"], 4000),
            "label": (rng.random(4000) < 1 / (1 + np.exp(2 - 1.5 * signal))).astype(np.int8),
        }
    )


def of_one(frame: Any) -> np.ndarray:
    """Leans on one feature alone; missing reads as the mean."""
    return 1 / (1 + np.exp(2 - 1.5 * frame["a"].fillna(0.0).to_numpy()))


def brittle(frame: Any) -> np.ndarray:
    """Memorises the exact value: the smallest nudge makes it say anything."""
    return ((np.nan_to_num(frame["a"].to_numpy()) * 1e7) % 1 + of_one(frame)) / 2


def test_what_breaks_more_costs_more(frame: pd.DataFrame) -> None:
    losses = []
    for share in (0.01, 0.2, 0.6):
        found = robustness(of_one, frame, FEATURES, RobustnessSettings(missing_share=share, noise=share, nudge=share))
        losses.append([found[kind]["roc_auc_loss"] for kind in ("missing", "noisy", "nudged")])
        assert found["missing"]["roc_auc_before"] == found["noisy"]["roc_auc_before"]
    for kind in zip(*losses, strict=True):
        assert sorted(kind) == list(kind)
        assert kind[-1] > 0.02
    assert losses[-1][2] > losses[-1][1], "an adversary hurts more than chance"


def test_a_brittle_model_is_hurt_by_little(frame: pd.DataFrame) -> None:
    little = RobustnessSettings(noise=0.01, nudge=0.01)
    assert robustness(of_one, frame, FEATURES, little)["nudged"]["roc_auc_loss"] < 0.02
    assert robustness(brittle, frame, FEATURES, little)["nudged"]["roc_auc_loss"] > 0.1


def test_a_model_that_reads_nothing_loses_nothing(frame: pd.DataFrame) -> None:
    found = robustness(lambda rows: np.full(len(rows), 0.1), frame, FEATURES, RobustnessSettings())
    for kind in ("missing", "noisy", "nudged"):
        assert (found[kind]["roc_auc_loss"], found[kind]["average_precision_loss_share"]) == (0.0, 0.0)


def test_categories_go_missing_and_dates_are_not_nudged(frame: pd.DataFrame) -> None:
    seen: list[pd.DataFrame] = []

    def watch(rows: Any) -> np.ndarray:
        seen.append(rows)
        return of_one(rows)

    robustness(watch, frame, FEATURES, RobustnessSettings())
    assert any(rows["kind"].isna().any() for rows in seen)
    assert all(rows["month"].dropna().eq(8.0).all() for rows in seen)
    assert all(rows["constant"].dropna().eq(1.0).all() for rows in seen)


def test_the_same_inputs_give_the_same_figures(frame: pd.DataFrame) -> None:
    few = RobustnessSettings(rows=1000, nudged_rows=500)
    found = robustness(of_one, frame, FEATURES, few)
    assert found == robustness(of_one, frame, FEATURES, few)
    assert (found["missing"]["rows"], found["nudged"]["rows"]) == (1000, 500)
