"""Features made when they are asked for, from stored state and the request's `as_of_day`.

The arithmetic stands in `evergreen.features.relative`, which training, serving and Spark share.
"""

from __future__ import annotations

from feast import Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from evergreen.features.registry import FEATURES
from feature_repo.data_sources import OWNER, request
from feature_repo.feature_views import customer_state, pair_state, product_state
from feature_repo.stores.delta import VECTORIZED

TYPES = {"float64": Float64, "int64": Int64, "string": String}

# No descriptions: `apply` infers the fields from a call and refuses declared ones that say more than the inferred.
SCHEMA = [Field(name=feature.name, dtype=TYPES[feature.kind]) for feature in FEATURES]


# One view for all: a request of 50 pairs would otherwise pay Feast's overhead once a group. Feast keeps this function's
# source text in its registry, so that it imports what it needs and has no annotations that need imports.
@on_demand_feature_view(
    name="buy_again_features",
    sources=[pair_state, customer_state, product_state, request],
    schema=SCHEMA,
    mode="python",
    description="Time-relative features of a (customer, product) pair, its customer, its product and the calendar",
    owner=OWNER,
    tags={VECTORIZED: "yes", "domain": "retail", "version": "1"},
)
def buy_again_features(inputs: dict) -> dict:
    """All features of `evergreen.features.registry`: lists from lists, arrays from Arrow columns."""
    from evergreen.features.relative import features

    made = features(inputs, inputs["as_of_day"])
    if isinstance(inputs["as_of_day"], list):
        return {name: values.tolist() for name, values in made.items()}
    return made
