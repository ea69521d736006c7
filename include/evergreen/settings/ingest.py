"""Settings of ingest: where purchases come from and what a valid line is."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field, field_validator

from evergreen.settings.base import Section

CANONICAL = (
    "invoice_id", "product_id", "description", "quantity", "event_time", "unit_price", "customer_id", "country",
)  # fmt: skip
MAY_BE_ABSENT = ("description", "customer_id", "country")


class IngestSettings(Section):
    """The source of purchase lines and the canonical contract's limits."""

    source: str = Field(
        "",
        description="File (.xlsx, .csv, .csv.gz, .parquet), landing folder or SQLAlchemy URL. Empty: what the last "
        "`run --source` remembered, else the generated sample.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Column mapping `canonical: source`, for tables whose headers are not known. An empty source "
        "column declares description, customer_id or country absent.",
    )
    time_format: Literal["auto", "iso", "day_first", "month_first"] = Field(
        "auto", description="How the source writes times; `auto` finds it, where a whole file writes them one way."
    )
    table: str = Field("", description="Table or SELECT to read when the source is a SQLAlchemy URL.")
    earliest_day: date = Field(date(1990, 1, 1), description="A line dated before this is absurd: quarantined.")
    max_quarantine_share: float = Field(0.05, ge=0, le=1, description="More rejected lines than this stop the run.")
    quarantine_grace: int = Field(
        5, ge=0, description="So many rejected lines of a load never stop the run, whatever their share of a small day."
    )
    max_unit_price: float = Field(
        100_000.0, gt=0, le=1e9, description="A higher unit price is absurd: quarantined. Major currency units."
    )
    max_quantity: int = Field(
        1_000_000, gt=0, le=10**7, description="A larger absolute quantity is absurd: quarantined."
    )
    non_products: tuple[str, ...] = Field(
        (
            "POST", "DOT", "D", "M", "C2", "C3", "S", "B", "CRUK", "PADS", "ADJUST", "ADJUST2", "AMAZONFEE",
            "BANK CHARGES", "SAMPLES", "GIFT", "TEST001", "TEST002", "DCGSSBOY", "DCGSSGIRL", "SP1002",
        ),
        description="Product codes that are no products: postage, fees, adjustments, samples, vouchers. Compared "
        "without case; a code that begins with `GIFT_` counts as `GIFT`.",
    )  # fmt: skip

    @field_validator("columns")
    @classmethod
    def _columns_are_known(cls, columns: dict[str, str]) -> dict[str, str]:
        for canonical, source in columns.items():
            if canonical not in CANONICAL:
                raise ValueError(f"{canonical!r} is no column of the contract, must be one of: {', '.join(CANONICAL)}")
            if not source and canonical not in MAY_BE_ABSENT:
                raise ValueError(f"{canonical!r} cannot be absent, only {', '.join(MAY_BE_ABSENT)} can")
        return columns
