"""Settings of promotion and the ledger."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from evergreen.settings.base import Section


class ApprovalMode(StrEnum):
    """Who says yes to a candidate that passed every gate."""

    HUMAN = "human"
    POLICY = "policy"


class LeakageSettings(Section):
    """Figures that are too good to be true for this kind of prediction."""

    max_roc_auc: float = Field(0.97, gt=0.5, le=1, description="A higher ROC AUC on the holdout is taken for a leak.")
    max_average_precision: float = Field(
        0.9, gt=0, le=1, description="A higher average precision on the holdout is taken for a leak."
    )


class CalibrationSettings(Section):
    """How far probabilities may lie from frequencies."""

    max_ece_share: float = Field(
        0.5, gt=0, description="Largest expected calibration error on the holdout, as a share of the base rate."
    )
    max_ratio: float = Field(
        1.4, gt=1, description="Mean probability over base rate must lie between 1 / this and this."
    )


class HarmSettings(Section):
    """When a slice of customers or products counts as harmed. Which slices are tested: `settings.evaluation.slices`."""

    metric: str = Field("log_loss", description="Metric of the harm tests.")
    margin: float = Field(0.002, ge=0, description="Harm below this is no harm, in units of the metric.")
    alpha: float = Field(
        0.05, gt=0, lt=1, description="Chance of calling any harmless candidate harmful, over all slices (Holm)."
    )
    worst: dict[str, float] = Field(
        {"roc_auc": 0.05},
        description="Metrics and losses that must be ruled out in every slice: where the gain's interval reaches so "
        "far down, the verdict is inconclusive.",
    )


class ProfitSettings(Section):
    """What the campaign (`settings.evaluation.policy`) must earn."""

    min_profit: float = Field(0.0, description="Least profit per 1,000 customers, in the shop's currency.")
    max_loss_share: float = Field(
        0.05, ge=0, description="Greatest loss against the champion's profit, as a share of it."
    )


class PromotionSettings(Section):
    """What a candidate must show, who must agree, and where the ledger is."""

    approval: ApprovalMode = Field(
        ApprovalMode.HUMAN, description="`human`: a person answers. `policy`: passing every gate is enough."
    )
    approvers: tuple[str, ...] = Field((), description="Users who may approve. Empty: everyone who is let in.")
    approval_hours: float = Field(24.0, gt=0, description="Requests and approvals are void after so many hours.")
    ledger_url: str = Field("", description="SQLAlchemy URL of the ledger. Empty: SQLite under `home/ledger`.")
    primary_metric: str = Field("average_precision", description="The one metric on which a candidate must be better.")
    min_gain: float = Field(0.0, ge=0, description="The gain's interval must lie above this, in units of the metric.")
    looks: int = Field(
        30,
        ge=1,
        le=1000,
        description="Decisions over which the chance of calling an equal candidate superior is kept at half of "
        "1 - `evaluation.confidence`, however alike they are (Bonferroni). 1: at each decision anew.",
    )
    guardrails: dict[str, float] = Field(
        {
            "average_precision": 0.01,
            "roc_auc": 0.005,
            "log_loss": 0.002,
            "brier": 0.001,
            "ndcg_at_10": 0.02,
            "recall_at_10": 0.02,
        },
        description="Metrics on which a candidate must not be worse, and the margin of each in its units.",
    )
    heuristic_metrics: tuple[str, ...] = Field(
        ("roc_auc", "average_precision"),
        description="Metrics on which the best heuristic must be beaten with intervals that do not overlap.",
    )
    refresh_after_days: int = Field(
        7, ge=1, description="A champion whose data are so much older is replaced by a candidate that is not worse."
    )
    replace_unscorable: bool = Field(
        False,
        description="A champion that needs a feature that is gone may be replaced without a comparison. Set it for the "
        "release that removes a feature, then take it back.",
    )
    leakage: LeakageSettings = Field(default_factory=LeakageSettings)
    calibration: CalibrationSettings = Field(default_factory=CalibrationSettings)
    harm: HarmSettings = Field(default_factory=HarmSettings)
    profit: ProfitSettings = Field(default_factory=ProfitSettings)

    @model_validator(mode="after")
    def _primary_is_guarded(self) -> PromotionSettings:
        if self.primary_metric not in self.guardrails:
            raise ValueError(
                f"settings.promotion.guardrails must hold the primary metric {self.primary_metric!r} too: "
                "after refresh_after_days nothing else would guard it"
            )
        if any(margin < 0 for margin in self.guardrails.values()):
            raise ValueError("settings.promotion.guardrails holds a negative margin, must be 0 or more")
        return self
