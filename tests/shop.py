"""A small shop in a lake: purchases that a model can learn from, and a join that is naive pandas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from evergreen.lake import Lake, begin, publish, release, seal, stage_days
from evergreen.lake.staging import new_attempt
from evergreen.settings import Settings

FIRST = date(2024, 1, 1)


@dataclass
class Shop:
    """A lake with `days` days of purchases: one row a (customer, product, day)."""

    settings: Settings
    purchases: pd.DataFrame
    day: date

    def join(self, entities: pd.DataFrame) -> pd.DataFrame:
        """Features of pairs from purchases before `as_of`, the slow and obvious way."""
        frame = entities.copy()
        as_of = entities["as_of"].iloc[0]
        before = self.purchases[self.purchases["day"] < as_of]
        pairs = before.groupby(["customer_id", "product_id"])["day"].agg(["count", "max"])
        of_pair = pairs.reindex(pd.MultiIndex.from_frame(entities[["customer_id", "product_id"]]))
        frame["pair_purchases"] = of_pair["count"].to_numpy(np.float64)
        frame["pair_recency_days"] = [float((as_of - last).days) for last in of_pair["max"]]
        recent = before[before["day"] >= as_of - timedelta(days=90)]
        frame["product_buyers_90d"] = frame["product_id"].map(recent["product_id"].value_counts()).astype(np.float64)
        frame["country"] = np.where(frame["customer_id"].str[-1].isin(list("0123")), "FR", "UK")
        return frame


def purchases_of(customers: int, products: int, days: int, seed: int = 11) -> pd.DataFrame:
    """Customers buy each of a few products in their own rhythm."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        for product in rng.choice(products, 5, replace=False):
            gap = rng.choice([5, 12, 30, 90])
            at = rng.integers(0, days)
            while at < days:
                rows.append((f"c{customer}", f"p{product}", FIRST + timedelta(days=int(at))))
                at += 1 + rng.poisson(gap)
    return pd.DataFrame(rows, columns=["customer_id", "product_id", "day"]).drop_duplicates()


def publish_days(lake: Lake, table: str, days: dict[date, pa.Table]) -> int:
    """Publishes whole days of a table and gives its version."""
    attempt = new_attempt()
    begin(lake, table, attempt)
    stage_days(lake, table, attempt, days.items())
    staged = seal(lake, table, attempt, start=min(days), end=max(days), transform="test/1")
    version = publish(lake, staged).version
    assert version is not None
    return version


def publish_purchases(settings: Settings, purchases: pd.DataFrame, day: date) -> None:
    """Fills `transactions` (days only) and `pair_features` (keys only) and releases both."""
    lake = Lake(settings.lake_path)
    days = [FIRST + timedelta(days=one) for one in range((day - FIRST).days + 1)]
    empty = lake.table("transactions").spec.file_schema.empty_table()
    transactions = publish_days(lake, "transactions", dict.fromkeys(days, empty))
    schema = lake.table("pair_features").spec.file_schema
    parts = {}
    for one, rows in purchases.groupby("day"):
        keys = {"customer_id": rows["customer_id"].tolist(), "product_id": rows["product_id"].tolist()}
        others = {name: pa.nulls(len(rows), schema.field(name).type) for name in schema.names if name not in keys}
        parts[one] = pa.table({**keys, **others}).select(schema.names).cast(schema)
    pairs = publish_days(lake, "pair_features", parts)
    digest = str(pd.util.hash_pandas_object(purchases, index=False).sum())
    release(lake, "transactions", day=day, digest=digest, versions={"transactions": transactions}, inputs={})
    release(lake, "features", day=day, digest=digest, versions={"pair_features": pairs}, inputs={})
