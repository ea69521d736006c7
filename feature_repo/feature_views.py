"""Stored state, as Feast sees it: one view a table, columns by `evergreen.features.schema`."""

from __future__ import annotations

from datetime import timedelta

from feast import FeatureView, Field
from feast.types import Array, Float64, Int64, String

from evergreen.features.schema import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS, Column
from evergreen.settings.prediction import ACTIVE_DAYS
from feature_repo.data_sources import OWNER, customer_features, pair_features, product_features
from feature_repo.entities import customer, product

TYPES = {"int64": Int64, "float64": Float64, "string": String, "list<int64>": Array(Int64)}

ACTIVE = timedelta(days=ACTIVE_DAYS - 1)
"""A pair bought on day d is seen from d + 1 on and is active up to d + 365, inclusive, as Feast counts TTLs."""

SNAPSHOT = timedelta(hours=12)
"""A snapshot is true at its own `as_of` alone. Feast reads 0 as no limit; one day, inclusive, lets in yesterday's."""


def fields(columns: tuple[Column, ...]) -> list[Field]:
    """Feast's fields of a table's columns."""
    return [Field(name=column.name, dtype=TYPES[column.kind], description=column.doc) for column in columns]


pair_state = FeatureView(
    name="pair_state",
    entities=[customer, product],
    ttl=ACTIVE,
    schema=fields(PAIR_COLUMNS),
    source=pair_features,
    online=True,
    description="Exact, mergeable state of a (customer, product) pair after its newest purchase",
    owner=OWNER,
    tags={"domain": "retail", "clock": "event-anchored", "version": "1"},
)

customer_state = FeatureView(
    name="customer_state",
    entities=[customer],
    ttl=SNAPSHOT,
    schema=fields(CUSTOMER_COLUMNS),
    source=customer_features,
    online=True,
    description="Exact sums of a customer over windows that end at as_of",
    owner=OWNER,
    tags={"domain": "retail", "clock": "snapshot", "version": "1"},
)

product_state = FeatureView(
    name="product_state",
    entities=[product],
    ttl=SNAPSHOT,
    schema=fields(PRODUCT_COLUMNS),
    source=product_features,
    online=True,
    description="Exact sums of a product over windows that end at as_of",
    owner=OWNER,
    tags={"domain": "retail", "clock": "snapshot", "version": "1"},
)
