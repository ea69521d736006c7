"""Tables of the lake that features are read from, and what a request brings along."""

from __future__ import annotations

from feast import Field, RequestSource
from feast.types import Int64

from feature_repo.stores.delta import DeltaSource

OWNER = "data-platform@evergreen.example"

pair_features = DeltaSource(
    table="pair_features",
    description="State of a (customer, product) pair after each day with a purchase",
    owner=OWNER,
    tags={"grain": "pair x purchase day"},
)

customer_features = DeltaSource(
    table="customer_features",
    description="Snapshot of each active customer",
    owner=OWNER,
    tags={"grain": "customer x as_of"},
)

product_features = DeltaSource(
    table="product_features",
    description="Snapshot of each active product",
    owner=OWNER,
    tags={"grain": "product x as_of"},
)

request = RequestSource(
    name="request",
    # Whole days as integers: a timestamp has nanoseconds at `apply` and microseconds at retrieval.
    schema=[Field(name="as_of_day", dtype=Int64)],
    description="What a caller says: features as of which epoch day (everything before its 00:00 UTC)",
    owner=OWNER,
)
