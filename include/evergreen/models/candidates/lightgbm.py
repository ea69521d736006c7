"""Leaf-wise boosted trees: a few of LightGBM's boosters, averaged, each kept as LightGBM's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evergreen.models.bagged import BaggedBoosters, mean_scores
from evergreen.models.candidate import Matrix, Sample
from evergreen.models.contributions import Contributions
from evergreen.models.params import Number, Ranges, Value
from evergreen.models.sampling import drawn_sample

FILE = "model-{}.txt"
SMALL_ROWS = 1_000  # with so few rows a second thread costs more than it brings
BOOSTER_PARAMS = (
    "learning_rate", "num_leaves", "min_data_in_leaf", "min_sum_hessian_in_leaf", "bagging_fraction",
    "feature_fraction", "feature_fraction_bynode", "lambda_l1", "lambda_l2", "max_bin",
)  # fmt: skip
TRAINING_PARAMS = re.compile(r"\nparameters:\n.*?\nend of parameters\n", re.DOTALL)


class Lightgbm(BaggedBoosters):
    """Trees on raw numbers (missing stays missing) and category codes, stopped early on held-out customers."""

    ranges: ClassVar[Ranges] = {
        "bags": Number(3, 1, 50, whole=True),
        "rounds": Number(400, 1, 10_000, whole=True),
        "early_stopping_rounds": Number(25, 1, 1_000, whole=True),
        "learning_rate": Number(0.06, 0.001, 1.0),
        "num_leaves": Number(63, 2, 4_096, whole=True),
        "min_data_in_leaf": Number(100, 1, 1_000_000, whole=True),
        "min_sum_hessian_in_leaf": Number(100.0, 0.0, 10_000.0),
        "bagging_fraction": Number(0.7, 0.05, 1.0),
        "feature_fraction": Number(0.4, 0.05, 1.0),
        "feature_fraction_bynode": Number(0.6, 0.05, 1.0),
        "lambda_l1": Number(0.0, 0.0, 10_000.0),
        "lambda_l2": Number(20.0, 0.0, 10_000.0),
        "max_bin": Number(63, 8, 1_024, whole=True),
        "negative_share": Number(0.06, 0.01, 1.0),
    }
    frameworks: ClassVar[tuple[str, ...]] = ("lightgbm",)

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Boosts until the log loss of the validation customers stops falling, and keeps the best round.

        Negatives are drawn, and bags differ, as in `xgboost.py`.
        """
        return self.keep(
            _boost(train, validation, params, seed=one, threads=threads) for one in self.seeds(params, seed)
        )

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores in (0, 1), float64[rows]: the average of the boosters'."""
        threads = {"num_threads": 1} if len(matrix) <= SMALL_ROWS else {}
        return mean_scores(one.predict(matrix, **threads) for one in self.boosters)

    def contributions(self, matrix: Matrix, background: Matrix) -> Contributions:
        """Exact SHAP values of the mean of the boosters' log-odds (`predict` averages their scores)."""
        values = [np.asarray(one.predict(matrix, pred_contrib=True), np.float64) for one in self.boosters]
        return Contributions.of_models(values, "TreeSHAP, exact")

    def save(self, folder: Path) -> None:
        """Writes each booster as text."""
        for number, booster in enumerate(self.boosters):
            (folder / FILE.format(number)).write_text(booster.model_to_string())

    @classmethod
    def load(cls, folder: Path) -> Lightgbm:
        """Reads what `save` wrote.

        Raises:
            ValueError: a file is no model that LightGBM reads.
        """
        files = [folder / FILE.format(number) for number in range(len(list(folder.glob(FILE.format("*")))))]
        return cls([_booster(file.read_text()) for file in files])


def _boost(
    train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
) -> tuple[Any, dict[str, int]]:
    """One booster, cut after its best round on the validation rows, and facts for the report."""
    import lightgbm

    booster_params: dict[str, Any] = {name: params[name] for name in BOOSTER_PARAMS}
    booster_params |= {
        "objective": "binary",
        "metric": "binary_logloss",
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,  # else it times both ways, and takes the faster one
        "num_threads": threads,
        "verbosity": -1,
    }
    sample, weights = drawn_sample(train, float(params["negative_share"]), seed)
    data = lightgbm.Dataset(sample.matrix, sample.labels, weight=weights, params=booster_params)
    check = lightgbm.Dataset(validation.matrix, validation.labels, reference=data)
    booster = lightgbm.train(
        booster_params,
        data,
        num_boost_round=int(params["rounds"]),
        valid_sets=[check],
        callbacks=[lightgbm.early_stopping(int(params["early_stopping_rounds"]), verbose=False)],
    )
    best = int(booster.best_iteration)
    text = TRAINING_PARAMS.sub("\n", booster.model_to_string(num_iteration=best))  # the number of threads stands there
    return _booster(text), {"best_iteration": best, "fitted_rows": len(sample.labels)}


def _booster(text: str) -> Any:
    import lightgbm

    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(f"no model that LightGBM reads: {error}") from None


CANDIDATE = Lightgbm
