"""Edited feature columns against the feature functions on edited state: what the edits claim to follow from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evergreen.evaluation import edits
from evergreen.features import relative
from evergreen.features.registry import CATEGORICAL, FEATURES
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS, WINDOWS

TODAY = 15_000
ROWS = 150
FOLLOWS = [one.name for one in FEATURES if one.group in ("pair", "interaction", "sequence")]
HELD = [one.name for one in FEATURES if one.group in ("customer", "product", "calendar")]
Histories = list[tuple[list[int], list[int]]]  # visits of the customer, purchases of the pair among them


def histories(seed: int) -> Histories:
    """Visits of a year, and purchases on some of them but not on the newest."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(ROWS):
        visits = sorted(rng.choice(np.arange(1, 360), rng.integers(2, 25), replace=False).tolist(), reverse=True)
        bought = sorted(rng.choice(visits[:-1], rng.integers(1, len(visits)), replace=False).tolist(), reverse=True)
        made.append(([TODAY - age for age in visits], [TODAY - age for age in bought]))
    return made


def pair_state(days: list[int], units: int, price: int) -> dict[str, Any]:
    gaps = np.diff(days)
    count = len(days)
    return {
        "pair_purchase_days": days,
        "pair_purchase_quantities": [units] * count,
        "pair_total_purchases": count,
        "pair_total_lines": count,
        "pair_total_quantity": units * count,
        "pair_total_amount_minor": units * count * price,
        "pair_sum_quantity_squares": units**2 * count,
        "pair_first_purchase_day": days[0],
        "pair_last_purchase_day": days[-1],
        "pair_sum_gap_squares": int((gaps**2).sum()),
        "pair_max_gap_days": int(gaps.max(initial=0)),
        "pair_last_gap_days": int(gaps[-1]) if count > 1 else 0,
        "pair_last_price_minor": price,
        "pair_min_price_minor": price,
        "pair_max_price_minor": price,
    }


def features_of(made: Histories, seed: int) -> pd.DataFrame:
    """All features; customers and products are the same whatever the pairs did."""
    rng = np.random.default_rng(seed)
    rows = []
    for visits, bought in made:
        row: dict[str, Any] = {}
        for column in (*CUSTOMER_COLUMNS, *PRODUCT_COLUMNS):
            row[column.name] = "x" if column.kind == "string" else int(rng.integers(50, 500))
        gaps = np.diff(visits)
        row |= {
            "customer_purchase_days": visits,
            "customer_total_purchases": len(visits),
            "customer_first_purchase_day": visits[0],
            "customer_last_purchase_day": visits[-1],
            "customer_sum_gap_squares": int((gaps**2).sum()),
            "customer_last_gap_days": int(gaps[-1]),
            **{f"customer_purchases_{w}d": sum(TODAY - day <= w for day in visits) for w in WINDOWS},
            "product_first_day": TODAY - 700,
        }
        rows.append(row | pair_state(bought, int(rng.integers(1, 9)), int(rng.integers(50, 900))))
    names = [column.name for column in (*PAIR_COLUMNS, *CUSTOMER_COLUMNS, *PRODUCT_COLUMNS)]
    return pd.DataFrame(relative.features({name: [row[name] for row in rows] for name in names}, TODAY))


def assert_follows(edited: pd.DataFrame, expected: pd.DataFrame, before: pd.DataFrame) -> None:
    for name in FOLLOWS:
        np.testing.assert_allclose(edited[name], expected[name], rtol=1e-9, atol=1e-6, err_msg=name)
    pd.testing.assert_frame_equal(edited[HELD], before[HELD])


@pytest.mark.parametrize("seed", range(3))
def test_one_more_purchase_is_what_the_feature_functions_make_of_it(seed: int) -> None:
    made = histories(seed)
    before = features_of(made, seed)
    assert edits.can_move(before).all()
    expected = features_of([(visits, [*bought, visits[-1]]) for visits, bought in made], seed)
    assert_follows(edits.bought_once_more(before), expected, before)


@pytest.mark.parametrize("seed", range(3))
def test_a_sooner_purchase_is_what_the_feature_functions_make_of_it(seed: int) -> None:
    made = histories(seed)
    before = features_of(made, seed)
    expected = features_of([(visits, [*bought[:-1], visits[-1]]) for visits, bought in made], seed)
    assert_follows(edits.bought_sooner(before), expected, before)


def test_what_is_recent_or_not_remembered_cannot_move() -> None:
    frame = pd.DataFrame(
        {
            "pair_recency_days": [30.0, 5.0, 30.0],
            "days_since_last_purchase": [5.0, 5.0, 5.0],
            "pair_tenure_days": [100.0, 100.0, 500.0],
        }
    )
    assert edits.can_move(frame).tolist() == [True, False, False]


def test_a_weekly_purchase_has_the_features_of_one() -> None:
    made = histories(5)
    before = features_of(made, 5)
    chosen = np.arange(ROWS) % 3 == 0
    edited = edits.bought_weekly(before, chosen)
    days = [TODAY - 1 - 7 * week for week in range(52)][::-1]
    expected = features_of([(days, days if one else bought) for one, (_, bought) in zip(chosen, made, strict=True)], 5)
    for name in HELD:
        if edits.CUSTOMER_RHYTHM.fullmatch(name) and name not in CATEGORICAL and name != "customer_season_days":
            np.testing.assert_allclose(edited[name].astype(float), expected[name], err_msg=name)
    steps = [name for name in before if "_step_" in name and name.endswith("_days")]
    for name in (
        *steps,
        "pair_recency_days",
        "pair_purchases",
        "pair_decayed_60d",
        "pair_gap_mean_days",
        "pair_season_purchases",
        "pair_share_of_visits_365d",
        "recency_pair_to_customer",
        "gap_pair_to_customer",
        "expected_pair_purchases_28d",
    ):
        np.testing.assert_allclose(edited[name][chosen], expected[name][chosen], err_msg=name)
    assert set(edited["purchase_frequency_tier"]) == {"weekly"}
    pd.testing.assert_series_equal(edited["pair_purchases"][~chosen], before["pair_purchases"][~chosen])


def test_a_new_name_changes_the_words_of_whole_products_alone() -> None:
    frame = pd.DataFrame(
        {
            "product_id": ["a", "b", "a", "c"],
            "text_hash_0": [1.0, 2.0, 1.0, 3.0],
            "text_hash_1": [5.0, 6.0, 5.0, 7.0],
            "pair_purchases": [1.0, 2.0, 3.0, 4.0],
        }
    )
    edited = edits.renamed(frame, np.random.default_rng(1))
    assert edited["text_hash_0"].iloc[0] == edited["text_hash_0"].iloc[2]
    assert sorted(edited["text_hash_0"].unique()) == [1.0, 2.0, 3.0]
    assert (edited["text_hash_1"] - edited["text_hash_0"] == 4.0).all(), "words move together"
    assert edited["pair_purchases"].equals(frame["pair_purchases"])


def test_columns_that_are_not_there_are_passed_over() -> None:
    frame = pd.DataFrame({"pair_recency_days": [30.0], "pair_purchases": [2.0], "country": ["UK"]})
    assert edits.can_move(frame).tolist() == [True]
    assert edits.bought_once_more(frame).to_dict("list") == {
        "pair_recency_days": [1.0],
        "pair_purchases": [3.0],
        "country": ["UK"],
    }
