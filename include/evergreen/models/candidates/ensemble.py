"""A stacked ensemble: other candidates, each trained as by itself, and a logistic blend of their log-odds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.features.registry import CATEGORICAL
from evergreen.models.calibration import EDGE, logistic_weights, sigmoid
from evergreen.models.candidate import Candidate, Labels, Matrix, Models, Rows, Sample, candidate_class
from evergreen.models.params import Ranges, Value, resolve
from evergreen.models.preprocessing import FeatureKind, Plan, Preprocessor

FILE, PREPROCESSING = "ensemble.json", "preprocessing.json"
NAME = "ensemble"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """A trained candidate with the treatment of its inputs; None where it reads the ensemble's own matrix."""

    model: str
    candidate: Candidate
    preprocessor: Preprocessor | None

    def matrix(self, matrix: Matrix, names: Sequence[str]) -> Matrix:
        """What the candidate reads, made from the ensemble's matrix."""
        if self.preprocessor is None:
            return matrix
        return self.preprocessor.transform(_columns(matrix, names), len(matrix))

    def log_odds(self, matrix: Matrix, names: Sequence[str]) -> Floats:
        """The candidate's scores as log-odds, float64[rows]."""
        scores = np.clip(self.candidate.predict(self.matrix(matrix, names)), EDGE, 1 - EDGE)
        return np.asarray(np.log(scores) - np.log1p(-scores))


class Ensemble:
    """Members with their default parameters on the training customers, blended on the early-stopping customers.

    No member learned from a row that the blend is fitted on; they only stopped by those rows, as every candidate does.
    The bundle calibrates on the same rows afterwards. Those customers are not split between blend and calibration: that
    was measured, and costs more than it protects (docs/explanation/candidates.md has the figures).
    """

    # LightGBM got no weight beside the other two boosters, nor did the random forest (the same page).
    ranges: ClassVar[Ranges] = {"members": Models("xgboost,hist_boosting,logistic", but=NAME)}
    plan: ClassVar[Plan] = Plan(scale=False, one_hot=False)
    frameworks: ClassVar[tuple[str, ...]] = ()  # and those of the members: `evergreen.models.candidate.frameworks_of`

    def __init__(
        self,
        members: Sequence[Member] = (),
        names: Sequence[str] = (),
        weights: Sequence[float] = (),
        intercept: float = 0.0,
    ) -> None:
        self.members = tuple(members)
        self.names = tuple(names)
        self.weights = np.asarray(weights, np.float64)
        self.intercept = intercept

    @staticmethod
    def features(params: Mapping[str, Value], available: Sequence[str]) -> list[str]:
        """All of them.

        Raises:
            TrainingError: a member's parameter names a feature that is not available.
        """
        for model in Models.split(str(params["members"])):
            _member_features(model, available)
        return list(available)

    @staticmethod
    def rows(params: Mapping[str, Value], labels: Labels, seed: int) -> Rows | None:
        """Those that any of its members reads."""
        read = [_member_rows(model, labels, seed) for model in Models.split(str(params["members"]))]
        chosen = [rows for rows in read if rows is not None]
        return np.unique(np.concatenate(chosen)) if len(chosen) == len(read) else None

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Trains the members one after the other, then the blend.

        A member whose weight would be negative gets none: it would be subtracted from those that it resembles.
        """
        from threadpoolctl import threadpool_limits

        models = Models.split(str(params["members"]))
        self.names = train.names
        self.members = tuple(_fit_member(model, train, validation, seed=seed, threads=threads) for model in models)
        inputs = np.column_stack([member.log_odds(validation.matrix, self.names) for member in self.members])
        with threadpool_limits(1):  # sums of threads come in any order: other bits
            self.weights, self.intercept = blend(inputs, validation.labels)
        weights = {model: round(float(weight), 6) for model, weight in zip(models, self.weights, strict=True)}
        return {"weights": weights, "fitted_rows": len(train.labels)}

    def predict(self, matrix: Matrix) -> Floats:
        """Scores in (0, 1), float64[rows]."""
        margin = np.full(len(matrix), self.intercept)
        for member, weight in zip(self.members, self.weights, strict=True):
            if weight > 0:
                margin += weight * member.log_odds(matrix, self.names)
        return np.clip(sigmoid(margin), EDGE, 1 - EDGE)

    def save(self, folder: Path) -> None:
        """Writes the blend as JSON, and each member to a folder of its name."""
        state = {
            "members": [member.model for member in self.members],
            "names": list(self.names),
            "weights": self.weights.tolist(),
            "intercept": self.intercept,
        }
        (folder / FILE).write_text(json.dumps(state, sort_keys=True))
        for member in self.members:
            place = folder / member.model
            place.mkdir()
            member.candidate.save(place)
            if member.preprocessor is not None:
                (place / PREPROCESSING).write_text(json.dumps(member.preprocessor.to_json(), sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> Ensemble:
        """Reads what `save` wrote."""
        state = json.loads((folder / FILE).read_text())
        members = [_load_member(model, folder / model) for model in state["members"]]
        return cls(members, state["names"], state["weights"], float(state["intercept"]))


def blend(inputs: Floats, labels: npt.NDArray[np.int8]) -> tuple[Floats, float]:
    """Weights, none negative, and intercept of a logistic regression on the members' log-odds.

    Args:
        inputs: log-odds, float64[rows, members].
        labels: 0 or 1, one a row.
    """
    used = list(range(inputs.shape[1]))
    while True:
        found = logistic_weights(inputs[:, used], labels)
        lowest = int(np.argmin(found[:-1])) if used else 0
        if not used or found[lowest] >= 0:
            break
        del used[lowest]
    weights = np.zeros(inputs.shape[1])
    weights[used] = found[:-1]
    return weights, float(found[-1])


def _fit_member(model: str, train: Sample, validation: Sample, *, seed: int, threads: int) -> Member:
    kind = candidate_class(model)
    params = resolve(model, {}, kind.ranges)
    features = _member_features(model, train.names)
    rows = _member_rows(model, train.all_labels, seed)
    read = train if rows is None else train.of(rows)
    preprocessor = None
    if kind.plan != Ensemble.plan or features != list(train.names):
        preprocessor = Preprocessor.fit(
            kind.plan, [_with_kind(name) for name in features], _columns(read.matrix, train.names)
        )
    member = Member(model, kind(), preprocessor)
    names = train.names if preprocessor is None else preprocessor.names
    member.candidate.fit(
        replace(read, matrix=member.matrix(read.matrix, train.names), names=names),
        Sample(member.matrix(validation.matrix, train.names), validation.labels, names),
        params,
        seed=seed,
        threads=threads,
    )
    return member


def _load_member(model: str, folder: Path) -> Member:
    file = folder / PREPROCESSING
    preprocessor = Preprocessor.from_json(json.loads(file.read_text())) if file.exists() else None
    try:
        return Member(model, candidate_class(model).load(folder), preprocessor)
    except TrainingError as error:
        raise ValueError(f"member {model}: {error}") from None


def _member_rows(model: str, labels: Labels, seed: int) -> Rows | None:
    kind = candidate_class(model)
    return kind.rows(resolve(model, {}, kind.ranges), labels, seed)


def _member_features(model: str, available: Sequence[str]) -> list[str]:
    kind = candidate_class(model)
    return kind.features(resolve(model, {}, kind.ranges), available)


def _with_kind(name: str) -> tuple[str, FeatureKind]:
    return name, "category" if name in CATEGORICAL else "number"


def _columns(matrix: Matrix, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Columns by name. A category is its code, as text; None where it is unknown (-1)."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for column, name in enumerate(names):
        columns[name] = matrix[:, column]
        if name in CATEGORICAL:
            codes = columns[name].astype(np.int64)
            words = np.array([*map(str, range(int(codes.max(initial=-1)) + 1)), None], object)
            columns[name] = words[codes]
    return columns


CANDIDATE = Ensemble
