"""Scores to evaluate: customers differ in how much they buy, as real ones do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evergreen.evaluation.scores import Scores
from evergreen.settings.evaluation import EvaluationSettings

MakeScores = Callable[..., Scores]


@pytest.fixture
def quick() -> EvaluationSettings:
    """Few resamples and small slices, so that a test takes no seconds."""
    return EvaluationSettings.model_validate(
        {"resamples": 60, "slices": {"min_pairs": 100, "min_positives": 5, "min_customers": 5}}
    )


@pytest.fixture
def make_scores() -> MakeScores:
    """A maker of calibrated scores: `make_scores(pairs, customers, seed=, digits=, spread=)`."""

    def make(pairs: int, customers: int, seed: int = 0, digits: int | None = None, spread: float = 0.8) -> Scores:
        rng = np.random.default_rng(seed)
        codes = rng.integers(0, customers, pairs)
        logits = rng.normal(-2, 1.2, pairs) + rng.normal(0, spread, customers)[codes]
        probabilities = 1 / (1 + np.exp(-logits))
        labels = (rng.random(pairs) < probabilities).astype(np.int8)
        if digits is not None:
            probabilities = np.round(probabilities, digits)
        slices = {
            "country": np.where(codes % 3 == 0, "France", "United Kingdom").astype(object),
            "price_band": rng.choice(["low", "high"], pairs).astype(object),
        }
        names = np.array([f"c{code:05d}" for code in range(customers)], dtype=object)
        products = np.array([f"p{number}" for number in range(pairs)], dtype=object)
        return Scores(names[codes], products, labels, probabilities, slices)

    return make
