"""Names, columns and keys of the lake's tables."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

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

TABLES: dict[str, TableSpec] = {spec.name: spec for spec in (TRANSACTIONS, QUARANTINE, RELEASES)}
