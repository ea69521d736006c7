"""Detectors of poison: nothing in a clean shop, what was planted in a poisoned one."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from evergreen.evaluation.poisoning import (
    copied_customers,
    day_number,
    judge_rows,
    label_contradictions,
    poisoning,
)
from evergreen.settings.checks import PoisoningSettings
from evergreen.training.dataset import TrainingSet

HORIZON, AS_OFS = 28, tuple(range(1000, 1050, 7))
HOLDOUT = AS_OFS[-1] + HORIZON
SETTINGS = PoisoningSettings()


def rows_of(customers: int, seed: int = 1) -> pd.DataFrame:
    """Rows of a shop: purchases in a rhythm of their own, features and labels counted one by one."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        for product in rng.choice(60, 6, replace=False):
            days, at = [], int(rng.integers(700, 1000))
            while at < HOLDOUT + HORIZON:
                days.append(at)
                at += 1 + int(rng.exponential(rng.choice([10, 40, 120])))
            for as_of in (*AS_OFS, HOLDOUT):
                before = [day for day in days if day < as_of]
                if before:
                    rows.append(
                        {
                            "customer_id": customer,
                            "product_id": int(product),
                            "as_of": as_of,
                            "label": np.int8(any(as_of <= day < as_of + HORIZON for day in days)),
                            "pair_recency_days": float(as_of - before[-1]),
                            "pair_purchases": float(len(before)),
                            "pair_gap_last_days": float(before[-1] - before[-2]) if len(before) > 1 else np.nan,
                            "pair_tenure_days": float(as_of - before[0]),
                        }
                    )
    return pd.DataFrame(rows)


def judged(rows: pd.DataFrame) -> tuple[float, float, float]:
    found = judge_rows(rows, HORIZON, date(1970, 1, 1) + timedelta(days=HOLDOUT), SETTINGS)
    return found["labels"]["checked_share"], found["labels"]["contradicted_share"], found["twins"]["share"]


@pytest.fixture(scope="module")
def clean() -> pd.DataFrame:
    return rows_of(80)


def test_a_clean_set_has_no_contradiction_and_no_twin(clean: pd.DataFrame) -> None:
    checked, contradicted, twins = judged(clean)
    assert checked > 0.85
    assert (contradicted, twins) == (0.0, 0.0)


@pytest.mark.parametrize("share", [0.002, 0.02, 0.2])
def test_flipped_labels_contradict_later_features(clean: pd.DataFrame, share: float) -> None:
    rng = np.random.default_rng(3)
    own = np.flatnonzero(clean["as_of"] != HOLDOUT)
    flipped = rng.choice(own, int(share * len(own)), replace=False)
    labels = clean["label"].to_numpy().copy()
    labels[flipped] ^= 1
    checked, contradicted = label_contradictions(clean.assign(label=labels), HORIZON)
    assert contradicted[flipped].mean() == pytest.approx(checked[flipped].mean()), "what can be checked is found"
    assert not np.delete(contradicted, flipped).any(), "nothing else is"
    assert judged(clean.assign(label=labels))[1] > SETTINGS.max_contradicted_share


def test_the_holdout_is_a_witness_and_not_judged(clean: pd.DataFrame) -> None:
    labels = np.where(clean["as_of"] == HOLDOUT, 1 - clean["label"], clean["label"])
    assert judged(clean.assign(label=labels))[1] == 0.0


def test_without_later_dates_nothing_can_be_checked(clean: pd.DataFrame) -> None:
    checked, contradicted = label_contradictions(clean[clean["as_of"] == AS_OFS[0]].reset_index(drop=True), HORIZON)
    assert not checked.any()
    assert not contradicted.any()


@pytest.mark.parametrize(("dropped", "found"), [(0.0, True), (0.3, True), (0.8, False)])
def test_copied_customers_are_twins_as_long_as_they_are_alike(clean: pd.DataFrame, dropped: float, found: bool) -> None:
    rng = np.random.default_rng(4)
    newest = clean[clean["as_of"] == AS_OFS[-1]]
    copies = newest[newest["customer_id"] < 8]
    copies = copies[rng.random(len(copies)) >= dropped].assign(customer_id=lambda rows: rows["customer_id"] + 1000)
    twins, customers = copied_customers(pd.concat([newest, copies]), SETTINGS)
    assert customers >= 80
    assert (len(twins) >= 8) is found
    assert all(code % 1000 < 8 for code in twins), "nobody else is accused"


def test_customers_with_few_pairs_are_not_compared(clean: pd.DataFrame) -> None:
    few = clean[(clean["as_of"] == AS_OFS[-1]) & (clean["product_id"] < 10)]
    sizes = few.groupby("customer_id")["product_id"].transform("size")
    assert copied_customers(few[sizes < SETTINGS.twin_min_pairs], SETTINGS) == (set(), 0)


def test_a_training_set_is_read_from_its_files(filled_training_set: TrainingSet) -> None:
    found = poisoning(filled_training_set, SETTINGS)
    rows = filled_training_set.rows
    assert found["labels"]["rows"] == sum(count for name, count in rows.items() if name != "holdout")
    assert found["labels"]["contradicted_share"] == 0.0
    assert found["labels"]["checked_share"] > SETTINGS.min_checked_share


def test_days_are_counted_from_1970() -> None:
    assert day_number(date(1970, 1, 2)) == 1
