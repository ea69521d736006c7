"""The feature of two stored vectors: lists from Feast online, Arrow offline, and what is missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from evergreen.features.affinity import affinity
from evergreen.lake.feature_columns import FACTOR_UNIT

CUSTOMERS = [[4096, -2048], None, [], [1, 2], [8192, 1]]
PRODUCTS = [[2048, 4096], [1, 1], [1, 1], None, [4096, 3]]
EXPECTED = [0.0, np.nan, np.nan, np.nan, 2 + 3 / FACTOR_UNIT**2]


@pytest.mark.parametrize("convert", [list, lambda rows: pa.chunked_array([pa.array(rows, pa.list_(pa.int64()))])])
def test_it_is_the_product_of_the_vectors_and_missing_where_one_is(convert: object) -> None:
    made = affinity({"customer_factors": convert(CUSTOMERS), "product_factors": convert(PRODUCTS)})  # type: ignore[operator]
    np.testing.assert_array_equal(made["pair_affinity"], EXPECTED)


def test_a_row_alone_has_the_bytes_that_it_has_among_others() -> None:
    dice = np.random.default_rng(3)
    customers, products = (dice.integers(-20_000, 20_000, (500, 16)).tolist() for _ in range(2))
    among = affinity({"customer_factors": customers, "product_factors": products})["pair_affinity"]
    alone = [
        affinity({"customer_factors": [one], "product_factors": [other]})["pair_affinity"][0]
        for one, other in zip(customers, products, strict=True)
    ]
    assert among.tobytes() == np.array(alone).tobytes()
    rows = zip(customers, products, strict=True)
    exact = [sum(a * b for a, b in zip(*row, strict=True)) / FACTOR_UNIT**2 for row in rows]
    assert among.tolist() == exact


def test_vectors_of_two_factorisations_are_refused() -> None:
    with pytest.raises(ValueError, match="a customer's vector has 2 numbers, a product's 3"):
        affinity({"customer_factors": [None, [1, 2]], "product_factors": [[1, 2, 3], [1, 2, 3]]})
