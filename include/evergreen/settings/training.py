"""Settings of training."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from evergreen.settings.base import Section
from evergreen.settings.machine import this_machine
from evergreen.settings.prediction import ACTIVE_DAYS, HORIZON_DAYS
from evergreen.settings.search import SearchSettings


class InnerMetric(StrEnum):
    """By which metric of the selection customers the challenger is chosen among the candidates."""

    AVERAGE_PRECISION = "average_precision"
    LOG_LOSS = "log_loss"


class Runtime(StrEnum):
    """What a trainer runs in."""

    PROCESS = "process"
    DOCKER = "docker"


class CandidateSettings(Section):
    """One candidate: a model and the parameters that differ from the model's defaults."""

    model: str = Field(description="A file of `include/evergreen/models/candidates`, such as xgboost.")
    params: dict[str, float | int | str | bool] = Field(
        default_factory=dict, description="Parameters of the model; each has a range in the model's file."
    )
    text_encoder: Path | None = Field(
        None,
        description="Folder of a text encoder that was trained before, for a model that reads descriptions "
        "(docs/how-to/plug-in-a-text-encoder.md). Empty: it learns one.",
    )
    enabled: bool = Field(
        True, description="Trained each day. Others are trained when a run of `train_candidates` names them."
    )


def _candidates() -> dict[str, CandidateSettings]:
    return {
        "frequency": CandidateSettings(model="heuristic", params={"feature": "pair_purchases"}),
        "recency": CandidateSettings(model="heuristic", params={"feature": "pair_recency_days"}),
        "popularity": CandidateSettings(model="heuristic", params={"feature": "product_buyers_90d"}),
        "factorisation": CandidateSettings(model="heuristic", params={"feature": "pair_affinity"}, enabled=False),
        "logistic": CandidateSettings(model="logistic"),
        "xgboost": CandidateSettings(model="xgboost"),
        "lightgbm": CandidateSettings(model="lightgbm", enabled=False),
        "hist_boosting": CandidateSettings(model="hist_boosting", enabled=False),
        "random_forest": CandidateSettings(model="random_forest", enabled=False),
        "ensemble": CandidateSettings(model="ensemble", enabled=False),
    }


class TrainingSettings(Section):
    """Settings of training."""

    horizon_days: int = Field(
        HORIZON_DAYS,
        ge=1,
        le=90,
        description="Length of the label window: bought again within so many days. Features are made for 28: another "
        "value is refused.",
    )
    active_days: int = Field(
        ACTIVE_DAYS,
        ge=28,
        le=400,
        description="A pair is a unit if it was bought within so many days. Features are made for 365: another value "
        "is refused.",
    )
    step_days: int = Field(
        14,
        ge=1,
        description="Days between the `as_of`s of a training set; the newest may be nearer or farther by half of it.",
    )
    steps: int = Field(
        26,
        ge=1,
        le=52,
        description="Number of training `as_of`s before the embargo. A year of them holds the season of the holdout.",
    )
    inner_steps: int = Field(
        8,
        ge=1,
        le=52,
        description="The customers held out are read as of so many of the newest `as_of`s: that is the season to stop "
        "and to choose by, and scoring them costs time in each round.",
    )
    min_steps: int = Field(
        2, ge=1, le=52, description="Where history is short, at least so many `as_of`s, else an error."
    )
    min_history_days: int = Field(90, ge=1, description="Days of history that a training `as_of` must have behind it.")
    seed: int = Field(7, ge=0, description="Seed of everything random in training.")
    salt: str = Field(
        "evergreen", description="Salt of the hash that splits customers. Changing it changes every split."
    )
    early_stopping_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share of customers held out for early stopping and calibration."
    )
    selection_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share of customers held out for the choice among candidates."
    )
    service: str = Field("buy_again", description="Feast feature service that training and scoring read.")
    primary_metric: InnerMetric = Field(
        InnerMetric.AVERAGE_PRECISION, description="The best candidate by this inner metric becomes challenger."
    )
    runtime: Runtime = Field(
        Runtime.PROCESS,
        description="`process`: a child process of the task. `docker`: a container (`settings.container`). Both give "
        "the same bundle.",
    )
    threads: int | Literal["auto"] = Field("auto", description="Threads of one trainer. `auto`: one a core.")
    candidates: dict[str, CandidateSettings] = Field(
        default_factory=_candidates,
        description="Candidates by name; all that are enabled are trained, the best becomes challenger.",
    )
    search: SearchSettings = Field(
        default_factory=SearchSettings, description="The search for a candidate's parameters."
    )

    @property
    def trainer_threads(self) -> int:
        """Threads with `auto` resolved."""
        return this_machine().cores if self.threads == "auto" else self.threads

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_steps > self.steps:
            raise ValueError(f"min_steps is {self.min_steps}, must be at most steps ({self.steps})")
        if self.early_stopping_share + self.selection_share >= 0.8:
            raise ValueError("early_stopping_share + selection_share must leave at least a fifth of the customers")
        if not any(entry.enabled for entry in self.candidates.values()):
            raise ValueError("candidates has none that is enabled, must name at least one candidate that is")
        return self
