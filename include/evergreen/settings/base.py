"""What every section of the settings shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are refused (by `load`, with the nearest known one)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False, validate_default=True)
