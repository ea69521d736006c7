"""The feature of matrix factorisation: a pure function of the two stored vectors, offline and online.

NumPy alone is imported, as in `evergreen.features.relative`. The vectors are whole numbers, so that sums are exact: a
row's feature does not depend on the rows beside it, nor on the order of the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evergreen.features.registry import AFFINITY
from evergreen.features.state import Floats, State, state
from evergreen.lake.feature_columns import FACTOR_UNIT


def affinity(columns: Mapping[str, Any] | State) -> dict[str, Floats]:
    """The features of `FACTOR_FEATURES`.

    Args:
        columns: `customer_factors` and `product_factors`, n lists each; a missing one is None or empty.

    Returns:
        n values: the product of the two vectors, NaN where either is missing.

    Raises:
        ValueError: the two vectors of a row have different lengths: they are of two factorisations.
    """
    given = state(columns)
    of_customer, of_product = given.lists("customer_factors"), given.lists("product_factors")
    known = (of_customer.lengths > 0) & (of_product.lengths > 0)
    if (odd := known & (of_customer.lengths != of_product.lengths)).any():
        row = int(np.flatnonzero(odd)[0])
        raise ValueError(
            f"a customer's vector has {of_customer.lengths[row]} numbers, a product's {of_product.lengths[row]}: they "
            "must be of one factorisation; build the features of the day again"
        )
    of_customer = of_customer.only(of_customer.spread(known))
    of_product = of_product.only(of_product.spread(known))
    products = of_customer.sum(of_customer.values * of_product.values)
    return {AFFINITY: np.where(known, products / FACTOR_UNIT**2, np.nan)}
