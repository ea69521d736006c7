"""Behaviour tests on models whose behaviour is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evergreen.errors import EvaluationError
from evergreen.evaluation.behaviour import behaviour
from evergreen.settings.checks import BehaviourSettings

SETTINGS = BehaviourSettings(rows=400, customers=50)


@pytest.fixture
def frame() -> pd.DataFrame:
    """600 pairs of 60 customers, some bought at the customer's newest visit."""
    rng = np.random.default_rng(1)
    customers = np.repeat(np.arange(60), 10)
    visit = rng.integers(1, 30, 60)[customers].astype(float)
    recency = visit + rng.integers(0, 200, 600)
    return pd.DataFrame(
        {
            "customer_id": [f"c{one}" for one in customers],
            "product_id": [f"p{one}" for one in rng.integers(0, 40, 600)],
            "pair_recency_days": recency,
            "pair_tenure_days": recency + 50.0,
            "pair_purchases": rng.integers(1, 6, 600).astype(float),
            "days_since_last_purchase": visit,
            "text_hash_0": rng.integers(0, 5, 600).astype(float),
        }
    )


def good(frame: Any) -> np.ndarray:
    """Likes recent and frequent purchases."""
    return 1 / (1 + np.exp(2 + frame["pair_recency_days"].to_numpy() / 60 - frame["pair_purchases"].to_numpy() / 4))


def test_a_good_model_passes_every_test(frame: pd.DataFrame) -> None:
    found = behaviour(good, frame, SETTINGS)
    assert found["invariance"]["ids"] == {"max_change": 0.0}
    assert found["invariance"]["order"] == {"max_change": 0.0}
    assert found["invariance"]["renamed"]["change_share"] == 0.0
    assert found["direction"]["sooner"]["change_share"] > 0.1
    assert found["direction"]["once_more"]["change_share"] > found["direction"]["sooner"]["change_share"]
    assert found["direction"]["sooner"]["raised"] == 1.0
    assert found["minimum_function"] == {"first_share": 1.0, "customers": 50}


def test_the_same_model_and_holdout_give_the_same_figures(frame: pd.DataFrame) -> None:
    assert behaviour(good, frame, SETTINGS) == behaviour(good, frame, SETTINGS)


def test_a_model_that_reads_identifiers_is_found(frame: pd.DataFrame) -> None:
    by_product = behaviour(lambda rows: rows["product_id"].str[1:].astype(int).to_numpy() / 100, frame, SETTINGS)
    assert by_product["invariance"]["ids"]["max_change"] > 0.1
    found = behaviour(lambda rows: 0.5 - 0.1 * rows["customer_id"].str.startswith("x").to_numpy(), frame, SETTINGS)
    assert found["invariance"]["ids"]["max_change"] == pytest.approx(0.1)


def test_a_model_that_looks_at_the_other_rows_is_found(frame: pd.DataFrame) -> None:
    found = behaviour(lambda rows: rows["pair_purchases"].rank(pct=True).to_numpy(), frame, SETTINGS)
    assert found["invariance"]["order"]["max_change"] > 0.1
    found = behaviour(lambda rows: np.linspace(0, 1, len(rows)), frame, SETTINGS)
    assert found["invariance"]["order"]["max_change"] > 0.1


def test_a_model_that_lives_by_words_is_found(frame: pd.DataFrame) -> None:
    found = behaviour(lambda rows: rows["text_hash_0"].to_numpy() / 10 + 0.01, frame, SETTINGS)
    assert found["invariance"]["renamed"]["change_share"] > 0.5


def test_a_model_that_is_the_wrong_way_round_is_found(frame: pd.DataFrame) -> None:
    found = behaviour(lambda rows: 1 - good(rows), frame, SETTINGS)
    assert found["direction"]["sooner"]["change_share"] < -0.01
    assert found["direction"]["once_more"]["change_share"] < found["direction"]["sooner"]["change_share"]
    assert found["minimum_function"]["first_share"] == 0.0


def test_a_constant_model_puts_nothing_first(frame: pd.DataFrame) -> None:
    found = behaviour(lambda rows: np.full(len(rows), 0.04), frame, SETTINGS)
    assert found["minimum_function"]["first_share"] == 0.0
    assert found["direction"]["sooner"]["change_share"] == 0.0


def test_a_holdout_that_cannot_be_edited_says_so(frame: pd.DataFrame) -> None:
    with pytest.raises(EvaluationError, match="no pair of the holdout was bought before"):
        behaviour(good, frame.assign(pair_recency_days=frame["days_since_last_purchase"]), SETTINGS)
    lonely = frame.assign(customer_id=[f"c{row}" for row in range(len(frame))])
    with pytest.raises(EvaluationError, match="no customer of the holdout has 3 pairs"):
        behaviour(good, lonely, SETTINGS)
    with pytest.raises(EvaluationError, match="of a product on sale"):
        behaviour(good, frame.assign(product_recency_days=30.0), SETTINGS)
