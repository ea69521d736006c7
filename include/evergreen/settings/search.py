"""Settings of the search for a candidate's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from evergreen.settings.base import Section

Choice = float | int | str | bool


class Strategy(StrEnum):
    """How the next trial is chosen."""

    BAYESIAN = "bayesian"
    GRID = "grid"
    RANDOM = "random"


class Pruning(StrEnum):
    """What ends a trial after some of its folds."""

    MEDIAN = "median"
    HYPERBAND = "hyperband"
    NONE = "none"


class RangeSettings(Section):
    """Values of one parameter: from `low` to `high`, or one of `choices`."""

    low: float | None = Field(None, description="Smallest value.")
    high: float | None = Field(None, description="Largest value.")
    log: bool = Field(False, description="Search by the value's logarithm: for what spans factors of ten.")
    step: float | None = Field(None, gt=0, description="Only `low`, `low + step`, and so on.")
    choices: tuple[Choice, ...] = Field((), description="Only these values.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choices:
            if self.low is not None or self.high is not None or self.log or self.step:
                raise ValueError("choices stand alone: without low, high, log and step")
            if len(set(self.choices)) < len(self.choices):
                raise ValueError("choices must differ from each other")
            return self
        if self.low is None or self.high is None:
            raise ValueError("must have low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g}, must be less than high ({self.high:g})")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("log needs a low above 0, and no step")
        return self


Space = Mapping[str, RangeSettings]


def _log(low: float, high: float) -> RangeSettings:
    return RangeSettings(low=low, high=high, log=True)


def _even(low: float, high: float) -> RangeSettings:
    return RangeSettings(low=low, high=high)


# Around the defaults, as far as the authors of both libraries advise for noisy tables of this size.
DEFAULT_SPACES: Mapping[str, Space] = {
    "xgboost": {
        "learning_rate": _log(0.02, 0.2),
        "max_depth": _even(4, 10),
        "min_child_weight": _log(10, 400),
        "subsample": _even(0.4, 1.0),
        "colsample_bytree": _even(0.2, 1.0),
        "colsample_bynode": _even(0.3, 1.0),
        "reg_lambda": _log(1, 200),
    },
    "lightgbm": {
        "learning_rate": _log(0.02, 0.2),
        "num_leaves": _log(15, 255),
        "min_data_in_leaf": _log(20, 1000),
        "min_sum_hessian_in_leaf": _log(10, 400),
        "bagging_fraction": _even(0.4, 1.0),
        "feature_fraction": _even(0.2, 1.0),
        "feature_fraction_bynode": _even(0.3, 1.0),
        "lambda_l2": _log(1, 200),
    },
}


def _cheaper() -> dict[str, dict[str, Choice]]:
    return {"xgboost": {"bags": 1}, "lightgbm": {"bags": 1}}


class SearchSettings(Section):
    """The search for a candidate's parameters, on rolling-origin folds of the training dates."""

    models: tuple[str, ...] = Field(("xgboost",), description="Models that the task `search` searches, in turn.")
    strategy: Strategy = Field(
        Strategy.BAYESIAN,
        description="`bayesian`: tree-structured Parzen estimator. `grid`: every combination. `random`: independent.",
    )
    pruning: Pruning = Field(
        Pruning.MEDIAN,
        description="`median`: a trial ends after a fold at which it is worse than the median of the others. "
        "`hyperband`: brackets of successive halving. `none`: every trial sees all folds.",
    )
    trials: int = Field(30, ge=1, le=10_000, description="Trials of one search, pruned ones too.")
    seconds: float = Field(
        1_800.0, gt=0, description="No fold of a trial begins after so many seconds; what was begun is finished later."
    )
    parallel: int = Field(
        1, ge=1, le=64, description="Trials at once, each in a process with its share of the threads."
    )
    folds: int = Field(3, ge=1, le=12, description="Rolling-origin folds: the newest training dates that allow one.")
    validation_share: float = Field(
        0.2,
        gt=0,
        lt=0.5,
        description="Share of the training customers that one fold is judged on; each fold has others.",
    )
    customers_share: float = Field(
        1.0, gt=0, le=1, description="Share of all customers that the search reads: less is faster and noisier."
    )
    spaces: dict[str, dict[str, RangeSettings]] = Field(
        default_factory=dict,
        description="By model: the parameters that are searched. A model that is named here has these alone; xgboost "
        "and lightgbm have spaces of their own.",
    )
    fixed: dict[str, dict[str, Choice]] = Field(
        default_factory=_cheaper,
        description="By model: parameters of every trial, the defaults' one too, that make it cheaper. The best does "
        "not carry them.",
    )
    use_best: bool = Field(
        True, description="Candidates without parameters of their own are trained with the best that was found."
    )
    margin: float = Field(
        0.001,
        ge=0,
        description="The best is used if it beats the defaults by so much of the primary metric, averaged over folds.",
    )
    storage_url: str = Field(
        "",
        description="SQLAlchemy URL of Optuna's storage, such as of PostgreSQL. Empty: SQLite under `home/searches`.",
    )

    def space_of(self, model: str) -> Space:
        """The ranges of a model's parameters; empty where nobody gave any."""
        return self.spaces.get(model) or DEFAULT_SPACES.get(model, {})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folds * self.validation_share > 1:
            raise ValueError(
                f"folds x validation_share is {self.folds * self.validation_share:g}, must be at most 1: each fold is "
                "judged on other customers"
            )
        if not self.models:
            raise ValueError("models is empty, must name at least one model")
        return self
