from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evergreen.evaluation.explanations.attribution import Attribution
from evergreen.evaluation.explanations.reasons import THEMES, reasons, sentence, theme_of
from evergreen.features.registry import KNOWN

NAMES = [feature.name for feature in KNOWN]


def attribution(values: dict[str, float], **row: object) -> Attribution:
    frame = pd.DataFrame({**{name: [0.0] for name in values}, **{name: [value] for name, value in row.items()}})
    one = np.ones(1)
    return Attribution(frame, tuple(values), np.array([list(values.values())]), one, one, one, "test")


@pytest.mark.parametrize("feature", NAMES)
def test_every_feature_has_a_theme(feature: str) -> None:
    assert theme_of(feature) in THEMES


def test_features_that_say_the_same_are_one_reason() -> None:
    found = attribution(
        {"pair_recency_days": 0.4, "pair_days_to_expected": 0.3, "pair_purchases": 0.5, "country": -0.1},
        pair_recency_days=12.0, pair_gap_mean_days=14.2, pair_purchases=9.0, country="France",
    )  # fmt: skip
    (told,) = reasons(found, np.array([0]), 3)
    assert [one.text for one in told] == [
        "bought every 14 days, last 12 days ago", "bought 9 times so far", "customer in France",
    ]  # fmt: skip
    assert [one.raises for one in told] == [True, True, False]
    assert told[0].contribution == pytest.approx(0.7)


def test_what_adds_nothing_is_no_reason() -> None:
    (told,) = reasons(attribution({"pair_recency_days": 0.0, "pair_purchases": 0.2}), np.array([0]), 3)
    assert [one.theme for one in told] == ["habit"]


@pytest.mark.parametrize(
    ("theme", "row", "text"),
    [
        ("rhythm", {"pair_recency_days": 1.0, "pair_gap_mean_days": np.nan}, "bought once, 1 day ago"),
        ("habit", {"pair_purchases": 2.0, "pair_share_of_visits_365d": 0.25},
         "bought twice so far, at 25% of the visits of a year"),
        ("season", {"pair_season_purchases": 1.0}, "bought in these weeks last year too"),
        ("season", {"product_season_rise": 1.4},
         "the product sold more in these weeks last year than before them"),
        ("price", {"price_now_to_paid": 1.1}, "costs 10% more than last paid"),
        ("price", {"price_now_to_paid": 1.0}, "costs what was last paid"),
        ("demand", {"product_buyers_28d": 0.0, "product_momentum_28d": 0.2}, "nobody bought the product in 28 days"),
        ("demand", {"product_buyers_28d": 30.0, "product_momentum_28d": 0.5},
         "the product was bought 30 times in 28 days, demand is falling"),
        ("visits", {"customer_gap_mean_days": 7.0, "days_since_last_purchase": 3.0},
         "the customer shops every 7 days, last 3 days ago"),
        ("loyalty", {"customer_repeat_share_365d": 0.0}, "none of the customer's purchases are repeats"),
        ("kind", {"category": "home_decor", "is_preferred_category": 1.0},
         "category home decor, the customer's favourite"),
        ("customer", {"country": "unknown", "user_segment": "at_risk"}, "segment at risk"),
        ("something_new", {"something_new": 3.14159}, "something_new: 3.14"),
        ("something_new", {"something_new": None}, "something_new: unknown"),
    ],
)  # fmt: skip
def test_sentences(theme: str, row: dict, text: str) -> None:
    assert sentence(theme, row) == text


@pytest.mark.parametrize("theme", THEMES)
def test_a_row_without_values_still_has_words(theme: str) -> None:
    assert sentence(theme, {})
    assert "nan" not in sentence(theme, dict.fromkeys(NAMES, float("nan")))
