"""Names, columns and keys of the lake's tables."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from evergreen.lake.feature_columns import (
    CUSTOMER_COLUMNS,
    CUSTOMER_FACTOR_COLUMNS,
    PAIR_COLUMNS,
    PRODUCT_COLUMNS,
    PRODUCT_FACTOR_COLUMNS,
    Column,
)

TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class TableSpec:
    """A table of the lake: one row per `key`, partitioned by `event_date`."""

    name: str
    doc: str
    schema: pa.Schema  # with `event_date` last
    key: tuple[str, ...] = ()  # identifies a row; empty where only the whole row does
    provenance: tuple[str, ...] = ()  # columns that say which run wrote a row, not what it holds: not in the digest

    @property
    def file_schema(self) -> pa.Schema:
        """Columns that stand in the files: all but the partition column."""
        return pa.schema([field for field in self.schema if field.name != "event_date"])

    @property
    def sort_by(self) -> tuple[str, ...]:
        """Columns that order a day's rows canonically."""
        names = tuple(name for name in self.file_schema.names if name not in self.provenance)
        return tuple(name for name in self.key if name in names) or names


def columns(*entries: tuple[str, pa.DataType, str]) -> pa.Schema:
    """A schema from (name, type, description) triples; a description ends up in the generated reference."""
    return pa.schema([pa.field(name, kind, metadata={"doc": doc}) for name, kind, doc in entries])


EVENT_DATE = ("event_date", pa.date32(), "Day of the events (UTC); the partition")

TRANSACTIONS = TableSpec(
    "transactions",
    "Purchase lines by the canonical contract; cancellations and returns kept and flagged.",
    columns(
        ("invoice_id", pa.string(), "Invoice as in the source"),
        ("product_id", pa.string(), "Product code, upper case"),
        ("description", pa.string(), "Product description of the line, trimmed"),
        ("quantity", pa.int64(), "Units; negative for returns"),
        ("event_time", TIME, "When it was bought, UTC"),
        ("unit_price", pa.float64(), "Price of a unit, major currency units"),
        ("amount_minor", pa.int64(), "quantity x unit_price in minor currency units, rounded half to even"),
        ("customer_id", pa.string(), "Customer, null where the source has none"),
        ("country", pa.string(), "Country as in the source"),
        ("is_cancellation", pa.bool_(), "The invoice is a cancellation"),
        ("is_return", pa.bool_(), "quantity < 0"),
        ("is_product", pa.bool_(), "The code is not in the list of non-products"),
        ("is_purchase", pa.bool_(), "Bought: customer known, product, quantity > 0, price > 0, no cancellation"),
        ("extra", pa.string(), "Columns of the source that the contract does not know, as a JSON object; else null"),
        EVENT_DATE,
    ),
)

QUARANTINE = TableSpec(
    "quarantine",
    "Rejected source lines.",
    columns(
        ("source", pa.string(), "Name of the source file, table or drop"),
        ("source_row", pa.int64(), "Position in the source, 1 = first line of data"),
        ("rule", pa.string(), "First rule of the contract that the line breaks"),
        ("detail", pa.string(), "What was seen"),
        ("line", pa.string(), "The source line as a JSON object"),
        ("run_id", pa.string(), "Run that rejected it first"),
        (
            "event_date",
            pa.date32(),
            "Day of the line; where unreadable, that of the nearest readable line before it",
        ),
    ),
    key=("source", "source_row"),
    provenance=("run_id",),
)

PREDICTIONS = TableSpec(
    "predictions",
    "Every active pair as of the day after `event_date`, scored by one model and ranked per customer.",
    columns(
        ("customer_id", pa.string(), "Customer"),
        ("product_id", pa.string(), "Product"),
        (
            "probability",
            pa.float64(),
            "Calibrated probability that the customer buys the product again within the horizon",
        ),
        ("rank", pa.int32(), "1 = the customer's most likely product; ties by product_id"),
        ("model_version", pa.string(), "Registered version of the model"),
        EVENT_DATE,
    ),
    key=("customer_id", "product_id"),
)

RELEASES = TableSpec(
    "releases",
    "What readers pin: the table versions that belong together.",
    columns(
        ("name", pa.string(), "`transactions`, `features`, `predictions`"),
        ("day", pa.date32(), "Newest day that it covers"),
        ("sequence", pa.int64(), "Counts the releases of a name from 1"),
        ("digest", pa.string(), "Digest of the content and of what it was made from"),
        ("versions", pa.string(), "Table versions, JSON"),
        ("inputs", pa.string(), "Versions and digests that it was made from, JSON"),
        ("created_at", TIME, "When it was released"),
        EVENT_DATE,
    ),
)

MATERIALIZATIONS = TableSpec(
    "materializations",
    "What was brought online, when, and from which release; the online store itself notes what it holds now.",
    columns(
        ("release", pa.int64(), "Sequence number of the release of `features`"),
        ("view", pa.string(), "Feature view"),
        ("as_of", pa.date32(), "What the online store is true as of"),
        ("window_start", pa.date32(), "First day of data that was brought online"),
        ("window_end", pa.date32(), "Last day of data that was brought online"),
        ("rows", pa.int64(), "Entities of the view online afterwards"),
        ("checked", pa.int64(), "Values read online that equalled offline, all views together"),
        ("seconds", pa.float64(), "Duration, all views together"),
        ("definitions", pa.string(), "Digest of the feature repository's definitions"),
        ("finished_at", TIME, "When it was done"),
        EVENT_DATE,
    ),
    key=("release", "view"),
    provenance=("seconds", "finished_at"),
)

DAILY_CUSTOMER = TableSpec(
    "daily_customer",
    "Tiles: exact, mergeable sums of a customer's day.",
    columns(
        ("customer_id", pa.string(), "Customer"),
        ("lines", pa.int64(), "Purchase lines"),
        ("quantity", pa.int64(), "Units bought"),
        ("amount_minor", pa.int64(), "Amount bought, minor currency units"),
        ("pair_days", pa.int64(), "Different products bought"),
        ("new_pairs", pa.int64(), "Products bought for the first time"),
        ("repeats", pa.int64(), "Products that were bought on an earlier day too"),
        ("repeats_28d", pa.int64(), "Products that were bought within the 28 days before"),
        (
            "category_lines",
            pa.list_(pa.int64()),
            "Purchase lines by category, in the order of the settings, others last",
        ),
        ("country", pa.string(), "Country of the newest purchase line"),
        ("cancellations", pa.int64(), "Lines of cancelled invoices"),
        ("returns", pa.int64(), "Lines with returned goods"),
        EVENT_DATE,
    ),
    key=("customer_id",),
)

DAILY_PRODUCT = TableSpec(
    "daily_product",
    "Tiles: exact, mergeable sums of a product's day; sales count with or without a known customer.",
    columns(
        ("product_id", pa.string(), "Product code"),
        ("lines", pa.int64(), "Lines sold"),
        ("quantity", pa.int64(), "Units sold"),
        ("amount_minor", pa.int64(), "Amount sold, minor currency units"),
        ("pair_days", pa.int64(), "Different known customers that bought it"),
        ("new_pairs", pa.int64(), "Known customers that bought it for the first time"),
        ("repeats", pa.int64(), "Known customers that bought it on an earlier day too"),
        ("repeats_28d", pa.int64(), "Known customers that bought it within the 28 days before"),
        ("repeat_gaps", pa.int64(), "Sum over the repeats of the days since the purchase before"),
        ("description", pa.string(), "Description of the newest line sold"),
        ("last_price_minor", pa.int64(), "Unit price of the newest line, minor currency units"),
        ("min_price_minor", pa.int64(), "Lowest unit price, minor currency units"),
        ("max_price_minor", pa.int64(), "Highest unit price, minor currency units"),
        ("cancellations", pa.int64(), "Lines of cancelled invoices"),
        ("returns", pa.int64(), "Lines with returned goods"),
        EVENT_DATE,
    ),
    key=("product_id",),
)

ARROW_KINDS = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "list<int64>": pa.list_(pa.int64()),
}


def _feature_table(name: str, doc: str, entities: tuple[str, ...], stored: tuple[Column, ...]) -> TableSpec:
    return TableSpec(
        name,
        doc,
        columns(
            *((entity, pa.string(), "Entity key") for entity in entities),
            ("event_timestamp", TIME, "From when on the row is true: the day after `event_date`, 00:00 UTC"),
            *((column.name, ARROW_KINDS[column.kind], column.doc) for column in stored),
            EVENT_DATE,
        ),
        key=entities,
    )


PAIR_FEATURES = _feature_table(
    "pair_features",
    "State of a (customer, product) pair after each day on which the customer bought the product.",
    ("customer_id", "product_id"),
    PAIR_COLUMNS,
)
CUSTOMER_FEATURES = _feature_table(
    "customer_features",
    "Snapshots of the customers that bought within 365 days, for run days and training dates.",
    ("customer_id",),
    CUSTOMER_COLUMNS,
)
PRODUCT_FEATURES = _feature_table(
    "product_features",
    "Snapshots of the products that were sold within 365 days, for run days and training dates.",
    ("product_id",),
    PRODUCT_COLUMNS,
)
CUSTOMER_FACTORS = _feature_table(
    "customer_factors",
    "Vectors of customers by matrix factorisation, a set for each `as_of` that features are read as of. There are none "
    "unless `settings.features.factors.enabled`.",
    ("customer_id",),
    CUSTOMER_FACTOR_COLUMNS,
)
PRODUCT_FACTORS = _feature_table(
    "product_factors",
    "Vectors of products by matrix factorisation; their product with a customer's vector is the feature "
    "`pair_affinity`.",
    ("product_id",),
    PRODUCT_FACTOR_COLUMNS,
)

TABLES: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        TRANSACTIONS,
        QUARANTINE,
        DAILY_CUSTOMER,
        DAILY_PRODUCT,
        PAIR_FEATURES,
        CUSTOMER_FEATURES,
        PRODUCT_FEATURES,
        CUSTOMER_FACTORS,
        PRODUCT_FACTORS,
        PREDICTIONS,
        RELEASES,
        MATERIALIZATIONS,
    )
}
