"""Settings of training."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class TrainingSettings(Section):
    """Settings of training."""

    horizon_days: int = Field(28, ge=1, le=90, description="Length of the label window: bought again within so many days.")
    active_days: int = Field(365, ge=28, le=400, description="A pair is a unit if it was bought within so many days.")
    step_days: int = Field(7, ge=1, description="Days between the `as_of`s of a training set.")
    steps: int = Field(8, ge=1, le=52, description="Number of training `as_of`s before the embargo.")
    seed: int = Field(7, ge=0, description="Seed of everything random in training.")
