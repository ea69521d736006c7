"""Settings of evaluation and drift."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from evergreen.settings.base import Section
from evergreen.settings.checks import (
    BehaviourSettings,
    ExplanationLimitSettings,
    FairnessSettings,
    InfraSettings,
    PoisoningSettings,
    RobustnessSettings,
)
from evergreen.settings.explanations import ExplanationSettings


class ContactRule(StrEnum):
    """Whom a campaign contacts."""

    THRESHOLD = "threshold"
    TOP_K = "top_k"


class PolicySettings(Section):
    """What the predictions are used for: the campaign whose profit is estimated."""

    rule: ContactRule = Field(
        ContactRule.THRESHOLD,
        description="`threshold`: contact about every pair whose probability reaches the threshold. `top_k`: about the "
        "best `top_k` pairs of every customer.",
    )
    top_k: int = Field(10, ge=1, description="Pairs of a customer that `top_k` contacts about.")
    margin_per_conversion: float = Field(4.0, gt=0, description="What one purchase brings in, in the shop's currency.")
    cost_per_contact: float = Field(0.4, ge=0, description="What one contact costs, in the shop's currency.")
    threshold: float | Literal["auto"] = Field(
        "auto",
        description="Probability from which a pair counts as `will buy again` in accuracy, precision, recall, F1 and "
        "confusion matrix. `auto`: where a contact pays for itself, cost / margin.",
    )

    @property
    def decision_threshold(self) -> float:
        """The threshold with `auto` resolved, at most 1."""
        return (
            min(1.0, self.cost_per_contact / self.margin_per_conversion) if self.threshold == "auto" else self.threshold
        )


class SliceSettings(Section):
    """Slices smaller than this are merged into `other`: their intervals would say nothing."""

    min_pairs: int = Field(1000, ge=1, description="Fewest pairs of a slice.")
    min_positives: int = Field(50, ge=1, description="Fewest pairs of a slice that were bought again.")
    min_customers: int = Field(50, ge=2, description="Fewest customers of a slice: they are what is resampled.")


class FloorSettings(Section):
    """Readiness floors. None is on accuracy: at a base rate of 4 % a constant `no` reaches 96 % (docs/adr/0006)."""

    roc_auc: float = Field(0.70, ge=0.5, le=1, description="Least ROC AUC.")
    average_precision_lift: float = Field(2.0, ge=1, description="Least average precision, as a multiple of base rate.")
    calibration_error_share: float = Field(
        0.5, gt=0, description="Greatest calibration error (ECE), as a share of the base rate."
    )
    pairs: int = Field(2000, ge=1, description="Fewest labelled pairs.")
    positives: int = Field(200, ge=1, description="Fewest pairs that were bought again.")
    customers: int = Field(100, ge=2, description="Fewest customers.")


class DriftSettings(Section):
    """When current data count as drifted from what the model was trained on."""

    bins: int = Field(10, ge=2, le=100, description="Bins of a numeric column: equal shares of the reference.")
    psi_threshold: float = Field(0.2, gt=0, description="PSI of a numeric column from which it drifted.")
    jensen_shannon_threshold: float = Field(
        0.1, gt=0, le=1, description="Jensen-Shannon distance (base 2) of a category column from which it drifted."
    )
    drifted_share: float = Field(0.5, gt=0, le=1, description="Share of drifted columns from which the data drifted.")
    prediction_psi_threshold: float = Field(
        0.2, gt=0, description="PSI of the predictions from which the data drifted, whatever the columns say."
    )
    exclude: tuple[str, ...] = Field(
        (
            "customer_id", "product_id", "as_of*", "label", "split", "event_timestamp",
            "month", "week_of_year", "day_of_week", "days_to_christmas", "christmas_season_share", "year_*",
            "label_middle_*", "*_lag_*d",
        ),
        description="Columns (shell patterns) that are not judged: keys and labels; calendar features, which have one "
        "value for all rows of a day and move with the season by design; figures of a single day, which move with the "
        "day of the week.",
    )  # fmt: skip
    report_rows: int = Field(
        5_000, ge=100, description="Rows of each side in the Evidently page (the verdict uses all)."
    )
    report_columns: int = Field(20, ge=1, description="Columns in the Evidently page: those that moved most.")
    seed: int = Field(11, ge=0, description="Seed of the Evidently page's sample.")


class EvaluationSettings(Section):
    """Settings of evaluation and drift."""

    resamples: int = Field(300, ge=50, le=10_000, description="Bootstrap resamples of customers behind each interval.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    seed: int = Field(28, ge=0, description="Seed of the bootstrap: same scores, same intervals.")
    calibration_bins: int = Field(15, ge=2, le=100, description="Bins of equal mass of ECE and the calibration curve.")
    policy: PolicySettings = Field(default_factory=PolicySettings)
    slices: SliceSettings = Field(default_factory=SliceSettings)
    floors: FloorSettings = Field(default_factory=FloorSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    explanations: ExplanationSettings = Field(default_factory=ExplanationSettings)
    behaviour: BehaviourSettings = Field(default_factory=BehaviourSettings)
    robustness: RobustnessSettings = Field(default_factory=RobustnessSettings)
    fairness: FairnessSettings = Field(default_factory=FairnessSettings)
    poisoning: PoisoningSettings = Field(default_factory=PoisoningSettings)
    infra: InfraSettings = Field(default_factory=InfraSettings)
    explanation_limits: ExplanationLimitSettings = Field(default_factory=ExplanationLimitSettings)
