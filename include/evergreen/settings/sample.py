"""Settings of the generated sample."""

from __future__ import annotations

from datetime import date
from typing import Self

from pydantic import Field, model_validator

from evergreen.settings.base import Section


class SampleSettings(Section):
    """The embedded default input: a generated retailer."""

    lines: int = Field(500_000, ge=10_000, le=100_000_000, description="Purchase lines up to `day`, about.")
    seed: int = Field(20091201, ge=0, description="Same seed, same lines.")
    first_day: date = Field(date(2023, 9, 1), description="First day with purchases.")
    day: date = Field(date(2025, 8, 31), description="The day that `run` builds by default.")
    extra_days: int = Field(31, ge=0, description="Days after `day` that are generated too, to go on with.")

    @model_validator(mode="after")
    def _days_are_in_order(self) -> Self:
        if self.day <= self.first_day:
            raise ValueError(f"day {self.day} must lie after first_day {self.first_day}")
        return self
