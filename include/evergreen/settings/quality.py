"""Settings of quality checks."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from evergreen.settings.base import Section


class Severity(StrEnum):
    """What happens where an expectation does not hold."""

    WARN = "warn"  # it is reported
    FAIL = "fail"  # the run stops, nothing is published


class VolumeSettings(Section):
    """When a day's number of lines is taken for a mistake."""

    weekdays: int = Field(8, ge=1, description="A day is compared with so many earlier same weekdays that had lines.")
    min_weekdays: int = Field(4, ge=1, description="With fewer of them there is no verdict.")
    factor: float = Field(
        5.0,
        gt=1,
        description="Fewer lines than their least / factor, or more than their most x factor, are impossible.",
    )
    max_empty_days: int = Field(6, ge=0, description="A day without lines is normal; more than this in a row is not.")
    bulk_days: int = Field(
        7, ge=1, description="A load of more days than this is history: only its last day can fail, the others warn."
    )


class QualitySettings(Section):
    """Settings of quality checks."""

    severity: dict[str, Severity] = Field(
        default_factory=dict,
        description="Other severities than the declared ones: `table.check: warn | fail`, e.g. "
        "`transactions.missing_customers: fail`.",
    )
    min_rows: dict[str, int] = Field(
        default_factory=lambda: {"train": 1000, "inner": 200, "holdout": 500},
        description="Row floors by table; 1 where none is given.",
    )
    sample_rows: int = Field(
        200_000,
        ge=1000,
        description="Expectations on values read at most so many rows of a table: a seeded sample, stratified by day. "
        "Counts, keys and figures always read all rows.",
    )
    seed: int = Field(11, ge=0, description="Seed of that sample.")
    max_missing_customer_share: float = Field(0.2, ge=0, le=1, description="Share of lines without a customer.")
    max_missing_customer_share_of_day: float = Field(
        0.98, ge=0, le=1, description="The same on one day (of 100 lines or more): above it the customers were lost."
    )
    max_missing_description_share: float = Field(0.05, ge=0, le=1, description="Share of lines without a description.")
    max_cancellation_share: float = Field(0.2, ge=0, le=1, description="Share of cancelled lines.")
    max_quarantine_share: float = Field(0.01, ge=0, le=1, description="Share of rejected lines.")
    max_outlier_share: float = Field(0.01, ge=0, le=1, description="Share of values that are outliers, a column.")
    outlier_z: float = Field(
        6.0, gt=0, description="Robust z-score of the logarithm beyond which a price or quantity is an outlier."
    )
    min_positive_share: float = Field(0.1, ge=0, le=1, description="Share of positive labels; fewer is an imbalance.")
    volume: VolumeSettings = Field(default_factory=VolumeSettings)
