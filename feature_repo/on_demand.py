"""Features made when they are asked for, from stored state and the request's `as_of_day`.

The arithmetic stands in `evergreen.features.relative`, which training, serving and Spark share: here types are coerced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from feast import Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from evergreen.features.registry import FEATURES
from evergreen.features.schema import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS
from feature_repo.data_sources import OWNER, request
from feature_repo.feature_views import customer_state, pair_state, product_state
from feature_repo.stores.delta import VECTORIZED

TYPES = {"float64": Float64, "int64": Int64, "string": String}
ARROW = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string(), "list<int64>": pa.list_(pa.int64())}


def compute(inputs: Mapping[str, Sequence[Any] | pa.ChunkedArray]) -> dict[str, Any]:
    """All features of `evergreen.features.registry`.

    Args:
        inputs: the stored columns of all views and `as_of_day`, n values each: lists of Python values (from Feast,
            online and at `apply`) or Arrow columns (from the offline store). A missing entity reads as None.

    Returns:
        n values each: lists where lists came in, NumPy arrays where Arrow columns did.
    """
    from evergreen.features import relative

    columns = {
        column.name: pa.array(inputs[column.name], ARROW[column.kind])
        if isinstance(inputs[column.name], list)
        else inputs[column.name]
        for column in (*PAIR_COLUMNS, *CUSTOMER_COLUMNS, *PRODUCT_COLUMNS)
    }
    as_of_day = np.asarray(inputs["as_of_day"], dtype=np.int64)
    made = relative.features(relative.state(columns), as_of_day)
    return made if isinstance(inputs["as_of_day"], pa.ChunkedArray) else {k: v.tolist() for k, v in made.items()}


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
    """All features of `evergreen.features.registry`, from lists (Feast) or Arrow columns (the offline store)."""
    from feature_repo.on_demand import compute

    return compute(inputs)
