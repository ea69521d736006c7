"""Features made when they are asked for, from stored state and the request's `as_of_day`.

The arithmetic stands in `evergreen.features.relative`, which training, serving and Spark share: here types are coerced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from feast import Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from evergreen.features.registry import FEATURES
from feature_repo.data_sources import OWNER, request
from feature_repo.feature_views import customer_state, pair_state, product_state
from feature_repo.stores.delta import VECTORIZED

TYPES = {"float64": Float64, "int64": Int64, "string": String}


# One view for all: a request of 50 pairs would otherwise pay Feast's overhead once a group. Feast keeps this function's
# source text in its registry, so that it imports what it needs and has no annotations that need imports.
@on_demand_feature_view(
    name="buy_again_features",
    sources=[pair_state, customer_state, product_state, request],
    schema=[Field(name=feature.name, dtype=TYPES[feature.kind], description=feature.doc) for feature in FEATURES],
    mode="python",
    description="Time-relative features of a (customer, product) pair, its customer, its product and the calendar",
    owner=OWNER,
    tags={VECTORIZED: "yes", "domain": "retail", "version": "1"},
)
def buy_again_features(inputs: dict) -> dict:
    """All features of `evergreen.features.registry`, from lists (Feast) or Arrow columns (the offline store)."""
    from feature_repo.on_demand import compute

    return compute(inputs)
