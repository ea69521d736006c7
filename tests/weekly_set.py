"""A training set of a few customers whose next purchases follow two features, with dates far enough apart for folds."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from evergreen.settings import load_settings
from evergreen.training.dataset import TrainingSet, write_training_set
from evergreen.training.dates import TrainingDates

FIRST = date(2024, 3, 1)
AS_OFS = tuple(FIRST + timedelta(days=7 * week) for week in range(8))
HOLDOUT = AS_OFS[-1] + timedelta(days=28)
CUSTOMERS, PRODUCTS = 80, 6


def chunk(as_of: date) -> pa.Table:
    rng = np.random.default_rng(as_of.toordinal())
    customers = np.repeat([f"c{number:03}" for number in range(CUSTOMERS)], PRODUCTS)
    count = rng.poisson(2.0, len(customers)).astype(np.float32)
    recency = rng.integers(1, 200, len(customers)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(count - 2.0 - recency / 80)))
    return pa.table(
        {
            "as_of": pa.array([as_of] * len(customers), pa.date32()),
            "customer_id": pa.array(customers, pa.string()),
            "product_id": pa.array([f"p{number}" for number in range(PRODUCTS)] * CUSTOMERS, pa.string()),
            "label": pa.array((rng.random(len(customers)) < chance).astype(np.int8)),
            "pair_purchases": pa.array(count),
            "pair_recency_days": pa.array(recency),
        }
    )


def make_set(folder: Path) -> TrainingSet:
    """Writes the training set of 8 weekly dates into an empty folder."""
    release = SimpleNamespace(versions={"pair_features": 1}, digest="0" * 64)
    dates = TrainingDates(HOLDOUT, AS_OFS, len(AS_OFS))
    rows = SimpleNamespace(of=chunk)
    return write_training_set(folder, release, dates, load_settings("local"), rows, day=HOLDOUT + timedelta(days=27))
