"""The shape that feature tables, Feast views and models agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evergreen.lake.feature_columns import (
    CUSTOMER_COLUMNS,
    CUSTOMER_FACTOR_COLUMNS,
    FACTOR_UNIT,
    LAGS,
    MEMORY_DAYS,
    PAIR_COLUMNS,
    PRODUCT_COLUMNS,
    PRODUCT_FACTOR_COLUMNS,
    TEXT_BUCKETS,
    TREND_WINDOWS,
    UNKNOWN,
    WINDOWS,
    Column,
    Kind,
)

__all__ = [
    "CUSTOMER_COLUMNS",
    "CUSTOMER_FACTOR_COLUMNS",
    "FACTOR_UNIT",
    "LAGS",
    "MEMORY_DAYS",
    "PAIR_COLUMNS",
    "PRODUCT_COLUMNS",
    "PRODUCT_FACTOR_COLUMNS",
    "TEXT_BUCKETS",
    "TREND_WINDOWS",
    "UNKNOWN",
    "WINDOWS",
    "Column",
    "Feature",
    "Kind",
]


@dataclass(frozen=True)
class Feature:
    """One model feature, made by the time-relative module from stored columns and `as_of`."""

    name: str
    kind: Literal["float64", "int64", "string"]
    group: str  # pair, customer, product, interaction, calendar, sequence, text, factors
    doc: str
