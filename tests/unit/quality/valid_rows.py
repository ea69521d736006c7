"""Small, valid rows of each suite. A test plants one fault in them and names the check that must notice."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa

from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS, Column
from evergreen.lake.schemas import TABLES

DAY = date(2011, 8, 31)
Row = dict[str, Any]


def line(number: int, day: date = DAY, **other: Any) -> Row:
    """A valid purchase line."""
    quantity, price = other.get("quantity", 1 + number % 5), other.get("unit_price", 1.5 + number % 3)
    return {
        "invoice_id": f"{500000 + number // 4}",
        "product_id": f"P{number % 10}",
        "description": f"PRODUCT {number % 10}",
        "quantity": quantity,
        "event_time": datetime(day.year, day.month, day.day, 9, number % 60, number // 60 % 60, tzinfo=UTC),
        "unit_price": price,
        "amount_minor": round(quantity * price * 100),
        "customer_id": f"C{number % 7}",
        "country": "United Kingdom",
        "is_cancellation": False,
        "is_return": False,
        "is_product": True,
        "is_purchase": True,
        "extra": None,
        "event_date": day,
    } | other


def lines(count: int = 200, day: date = DAY) -> pd.DataFrame:
    return pd.DataFrame([line(number, day) for number in range(count)])


def epoch(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _stored(columns: tuple[Column, ...], days: list[int]) -> Row:
    row: Row = {}
    for column in columns:
        if column.kind == "list<int64>":
            row[column.name] = days if "days" in column.name else [2] * len(days)
        elif column.kind == "string":
            row[column.name] = "text"
        else:
            row[column.name] = 3
        if column.name.endswith(("_first_purchase_day", "_first_day")):
            row[column.name] = days[0]
        if column.name.endswith(("_last_purchase_day", "_last_day")):
            row[column.name] = days[-1]
    return row


def feature_frames(day: date = DAY) -> dict[str, pd.DataFrame]:
    """Five entities of each feature table on one day."""
    stamp = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    days = [epoch(day) - 20, epoch(day)]
    tile = {
        "lines": 3, "quantity": 6, "amount_minor": 900, "pair_days": 3, "new_pairs": 1, "repeats": 2, "repeats_28d": 1,
        "cancellations": 0, "returns": 0, "event_date": day,
    }  # fmt: skip
    customers = [f"C{number}" for number in range(5)]
    products = [f"P{number}" for number in range(5)]
    price = {"repeat_gaps": 9, "description": "X", "last_price_minor": 5, "min_price_minor": 4, "max_price_minor": 6}
    at = {"event_timestamp": stamp, "event_date": day}
    return {
        "daily_customer": pd.DataFrame(
            [{"customer_id": c, **tile, "category_lines": [1, 2], "country": "UK"} for c in customers]
        ),
        "daily_product": pd.DataFrame([{"product_id": p, **tile, **price} for p in products]),
        "pair_features": pd.DataFrame(
            [
                {"customer_id": c, "product_id": p, **_stored(PAIR_COLUMNS, days), **at}
                for c, p in zip(customers, products, strict=True)
            ]
        ),
        "customer_features": pd.DataFrame(
            [{"customer_id": c, **_stored(CUSTOMER_COLUMNS, days), **at} for c in customers]
        ),
        "product_features": pd.DataFrame([{"product_id": p, **_stored(PRODUCT_COLUMNS, days), **at} for p in products]),
    }


def training_frames(rows: int = 40) -> dict[str, pd.DataFrame]:
    """Pairs of disjoint customers for training and selection, and a holdout one embargo later."""
    holdout = date(2011, 8, 4)
    made = {}
    for table, as_of, prefix in (
        ("train", holdout - timedelta(days=28), "T"),
        ("inner", holdout - timedelta(days=28), "I"),
        ("holdout", holdout, "T"),
    ):
        made[table] = pd.DataFrame(
            {
                "as_of": as_of,
                "customer_id": [f"{prefix}{number}" for number in range(rows)],
                "product_id": [f"P{number % 5}" for number in range(rows)],
                "label": [int(number % 4 == 0) for number in range(rows)],
                "pair_purchases": [float(number % 3) for number in range(rows)],
                "category": ["a"] * rows,
            }
        )
    made["inner"]["split"] = "selection"
    return made


def table_of(name: str, frame: pd.DataFrame) -> pa.Table:
    """The frame in the table's types; columns that it lacks stay missing."""
    fields = [field for field in TABLES[name].schema if field.name in frame.columns]
    return pa.Table.from_pandas(frame, schema=pa.schema(fields), preserve_index=False)
