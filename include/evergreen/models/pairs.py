"""Which pairs are scored as of a day, and which of them were bought again."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa

from evergreen.errors import LakeError
from evergreen.lake import LakeTable

_ACTIVE = """
SELECT customer_id, product_id{label}
FROM read_parquet($paths, hive_partitioning = true, hive_types = {{'event_date': DATE}})
GROUP BY customer_id, product_id
HAVING bool_or(event_date < $as_of)
ORDER BY customer_id, product_id
"""
_LABEL = ", bool_or(event_date >= $as_of)::TINYINT AS label"


def active_pairs(pair_features: LakeTable, as_of: date, active_days: int) -> pa.Table:
    """Pairs bought in `[as_of - active_days, as_of)`: customer_id, product_id, sorted.

    Args:
        pair_features: the table at a pinned version: a row for each pair and day with a purchase.
        as_of: nothing at or after it is read.
        active_days: how far back a purchase counts.
    """
    return _query(pair_features, as_of, active_days, horizon_days=0)


def labelled_pairs(pair_features: LakeTable, as_of: date, active_days: int, horizon_days: int) -> pa.Table:
    """Active pairs with `label` (int8): 1 where the pair was bought again in `[as_of, as_of + horizon_days)`.

    The caller asserts that the window lies in ingested days.
    """
    return _query(pair_features, as_of, active_days, horizon_days)


def _query(pair_features: LakeTable, as_of: date, active_days: int, horizon_days: int) -> pa.Table:
    import duckdb

    first, last = as_of - timedelta(days=active_days), as_of + timedelta(days=horizon_days - 1)
    paths = pair_features.paths(first, last)
    if not paths:
        raise LakeError(
            f"table {pair_features.spec.name} has no day from {first} to {last}: build those features first"
        )
    query = _ACTIVE.format(label=_LABEL if horizon_days else "")
    with duckdb.connect() as connection:
        found: pa.Table = connection.sql(query, params={"paths": paths, "as_of": as_of}).to_arrow_table()
    kinds = [("customer_id", pa.string()), ("product_id", pa.string()), ("label", pa.int8())]
    return found.cast(pa.schema(kinds[: found.num_columns]))
