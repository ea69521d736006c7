"""Settings of ingest: where purchases come from and what a valid line is."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class IngestSettings(Section):
    """The source of purchase lines and the canonical contract's limits."""

    source: str = Field(
        "",
        description="File (.xlsx, .csv, .csv.gz, .parquet), landing folder or SQLAlchemy URL. Empty: what the last "
        "`run --source` remembered, else the generated sample.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Column mapping `canonical: source`, for tables whose headers are not known."
    )
    table: str = Field("", description="Table or SELECT to read when the source is a SQLAlchemy URL.")
    max_quarantine_share: float = Field(0.05, ge=0, le=1, description="More rejected lines than this stop the run.")
    max_unit_price: float = Field(100_000.0, gt=0, description="A higher unit price is absurd: quarantined.")
    max_quantity: int = Field(1_000_000, gt=0, description="A larger absolute quantity is absurd: quarantined.")
    non_products: tuple[str, ...] = Field(
        (
            "POST", "DOT", "D", "M", "C2", "C3", "S", "B", "CRUK", "PADS", "ADJUST", "ADJUST2", "AMAZONFEE",
            "BANK CHARGES", "SAMPLES", "GIFT", "TEST001", "TEST002", "DCGSSBOY", "DCGSSGIRL", "SP1002",
        ),
        description="Product codes that are no products: postage, fees, adjustments, samples, vouchers. Compared "
        "without case; a code that begins with `GIFT_` counts as `GIFT`.",
    )  # fmt: skip
