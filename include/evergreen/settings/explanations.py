"""Settings of the explanations that every judged candidate gets."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class ExplanationSettings(Section):
    """How much of the holdout is explained, and how closely."""

    rows: int = Field(3_000, ge=100, description="Rows of the holdout that are explained where that is exact, at most.")
    sampled_rows: int = Field(
        200, ge=20, description="Rows that are explained by sampling, where a model has no exact explanations, at most."
    )
    background_rows: int = Field(
        200, ge=10, description="Rows that stand for `nothing is known`, and that effects are averaged over."
    )
    dependence_features: int = Field(9, ge=1, description="Features whose effect is drawn: the most important ones.")
    interaction_features: int = Field(
        5, ge=2, description="Features whose interactions are measured pair by pair: the most important ones."
    )
    probe_rows: int = Field(
        40_000, ge=1_000, description="Training rows that a twin of the model with a column of random numbers learns."
    )
    reasons: int = Field(3, ge=1, le=10, description="Reasons that are told for a prediction.")
    seed: int = Field(41, ge=0, description="Seed of every sample: the same model and rows, the same explanations.")
