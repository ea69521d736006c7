"""Small feature tables that are true to a list of purchases, published and released as the feature job does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from evergreen.lake import Lake, Release, begin, publish, release, seal, stage_days
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS, Column

Purchase = tuple[date, str, str, int]  # day, customer, product, units

DAY = timedelta(days=1)
EPOCH = date(1970, 1, 1)


def _state(columns: Sequence[Column], prefix: str, lines: list[Purchase], day: date) -> dict[str, Any]:
    """A row of a feature table: days and units are true, other numbers are made up from them."""
    days = sorted({(line[0] - EPOCH).days for line in lines})
    units = [sum(line[3] for line in lines if (line[0] - EPOCH).days == day) for day in days]
    known = {
        f"{prefix}_purchase_days": days,
        f"{prefix}_purchase_quantities": units,
        f"{prefix}_total_purchases": len(days),
        f"{prefix}_total_quantity": sum(units),
        f"{prefix}_first_purchase_day": days[0],
        f"{prefix}_last_purchase_day": days[-1],
        f"{prefix}_first_day": days[0],
        f"{prefix}_last_day": days[-1],
    }
    row = {column.name: known.get(column.name, _made_up(column, n, sum(units))) for n, column in enumerate(columns)}
    return row | {"event_timestamp": datetime.combine(day + DAY, time(), UTC)}


def _made_up(column: Column, place: int, units: int) -> int | str:
    return f"text {units}" if column.kind == "string" else (units * 37 + place) % 101


def feature_rows(
    purchases: Iterable[Purchase], newest: date, as_ofs: Iterable[date]
) -> dict[str, dict[date, list[dict[str, Any]]]]:
    """Rows of the three feature tables by day, from purchases up to `newest`."""
    tables: dict[str, dict[date, list[dict[str, Any]]]] = {
        name: defaultdict(list) for name in ("pair_features", "customer_features", "product_features")
    }
    lines = sorted(line for line in purchases if line[0] <= newest)
    for day, customer, product in sorted({line[:3] for line in lines}):
        mine = [line for line in lines if line[1:3] == (customer, product) and line[0] <= day]
        row = _state(PAIR_COLUMNS, "pair", mine, day) | {"customer_id": customer, "product_id": product}
        tables["pair_features"][day].append(row)
    snapshots = (("customer", 1, CUSTOMER_COLUMNS), ("product", 2, PRODUCT_COLUMNS))
    for as_of in as_ofs:
        for prefix, place, columns in snapshots:
            past = [line for line in lines if as_of - 365 * DAY <= line[0] < as_of]
            for entity in sorted({line[place] for line in past}):
                mine = [line for line in past if line[place] == entity]
                row = _state(columns, prefix, mine, as_of - DAY) | {f"{prefix}_id": entity}
                tables[f"{prefix}_features"][as_of - DAY].append(row)
    return tables


Publish = Callable[..., Release]


@pytest.fixture
def publish_features(lake: Lake) -> Publish:
    """Publishes the feature tables of a list of purchases as their whole content and releases them."""

    def publish_all(purchases: Iterable[Purchase], newest: date, *as_ofs: date) -> Release:
        tables = feature_rows(purchases, newest, {newest + DAY, *as_ofs})
        versions = {}
        for name, by_day in tables.items():
            attempt = uuid4().hex
            schema = lake.table(name).spec.file_schema
            begin(lake, name, attempt)
            stage_days(
                lake,
                name,
                attempt,
                ((day, pa.Table.from_pylist(rows, schema=schema)) for day, rows in by_day.items()),
            )
            publish(lake, seal(lake, name, attempt, start=date(2009, 1, 1), end=date(2013, 1, 1), transform="test"))
            version = lake.table(name).version
            if version is not None:
                versions[name] = version
        return release(lake, "features", day=newest, digest=uuid4().hex, versions=versions, inputs={})

    return publish_all
