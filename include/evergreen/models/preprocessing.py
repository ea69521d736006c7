"""Imputation, caps, encoders and scalers: fitted on the training customers, kept as JSON, applied with NumPy.

A feature table holds nothing that was fitted; all of it stands here, inside the artefact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.models.text import TOKENS, token_ids

FeatureKind = Literal["number", "category", "sequence", "text"]
Columns = Mapping[str, Any] | pd.DataFrame  # arrays by name
UNKNOWN = "(unknown)"
SKEWED = 2.0  # a skewness above it is a long tail: such a column is scaled by its logarithm


@dataclass(frozen=True)
class Plan:
    """What a model needs done to its inputs."""

    scale: bool  # numbers: cap, impute, scale. False: raw, with NaN for missing
    one_hot: bool  # categories: a column each. False: one column of codes
    cap_quantile: float = 0.001  # values beyond this quantile and its mirror are clipped to it
    max_categories: int = 32  # rarer ones share the unknown bucket
    raw: bool = False  # the model also reads texts, as ids of their parts, and the steps of sequences


@dataclass(frozen=True)
class NumberState:
    """Fitted treatment of one number: `(clip(x, low, high) -> log -> - centre) / spread`, missing becomes 0."""

    low: float
    high: float
    log: bool
    centre: float
    spread: float
    missing_flag: bool  # a second column says that the value was missing


class Preprocessor:
    """Turns feature columns into the float32 matrix that a model reads."""

    def __init__(
        self,
        plan: Plan,
        features: Sequence[tuple[str, FeatureKind]],
        numbers: Mapping[str, NumberState],
        vocabularies: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.plan = plan
        self.features = tuple(features)
        self.numbers = dict(numbers)
        self.vocabularies = dict(vocabularies)
        self._indexes = {name: pd.Index(words, dtype=object) for name, words in self.vocabularies.items()}
        self.names = tuple(name for feature, kind in self.features for name in self._names_of(feature, kind))
        # of each column of the matrix: the place of the feature that it was made from
        self.origins = np.repeat(range(len(self.features)), [len(self._names_of(*one)) for one in self.features])

    @classmethod
    def fit(cls, plan: Plan, features: Sequence[tuple[str, FeatureKind]], columns: Columns) -> Self:
        """Fits caps, centres, spreads and vocabularies on training rows.

        Args:
            plan: what the model needs.
            features: (name, kind) in the order of the bundle's signature.
            columns: training rows, one array a feature.
        """
        numbers = {}
        vocabularies = {}
        for name, kind in features:
            if kind == "category":
                vocabularies[name] = _vocabulary(columns[name], plan.max_categories)
            elif plan.scale and kind == "number":
                numbers[name] = _fit_number(as_float32(columns[name]), plan.cap_quantile)
        return cls(plan, features, numbers, vocabularies)

    def transform(
        self, columns: Columns, rows: int, out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """The matrix of `rows` rows, float32[rows, len(names)], C order. A category that was never seen is unknown.

        `out` is filled and given back where it is given: a mapped file, for a table that the memory does not hold.
        """
        matrix = np.empty((rows, len(self.names)), np.float32) if out is None else out
        at = 0
        for name, kind in self.features:
            width = len(self._names_of(name, kind))
            target = matrix[:, at : at + width]
            if kind == "category":
                self._encode(name, columns[name], target)
            elif kind == "text":
                target[:] = token_ids(columns[name])
            elif kind == "sequence":
                target[:, 0] = _step(as_float32(columns[name]))
            elif name in self.numbers:
                _scale(as_float32(columns[name]), self.numbers[name], target)
            else:
                target[:, 0] = as_float32(columns[name])
            at += width
        return matrix

    def to_json(self) -> dict[str, Any]:
        """The fitted state as a JSON document. `raw` stands there only where it is set: bundles of before had none."""
        return {
            "plan": {name: value for name, value in asdict(self.plan).items() if name != "raw" or value},
            "features": [list(entry) for entry in self.features],
            "numbers": {name: asdict(state) for name, state in self.numbers.items()},
            "vocabularies": {name: list(words) for name, words in self.vocabularies.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Reads what `to_json` gave."""
        return cls(
            Plan(**document["plan"]),
            [(name, kind) for name, kind in document["features"]],
            {name: NumberState(**state) for name, state in document["numbers"].items()},
            {name: tuple(words) for name, words in document["vocabularies"].items()},
        )

    def _names_of(self, name: str, kind: FeatureKind) -> list[str]:
        if kind == "category" and self.plan.one_hot:
            return [f"{name}={word}" for word in (*self.vocabularies[name], UNKNOWN)]
        if kind == "text":
            return [f"{name} {place}" for place in range(TOKENS)]
        if name in self.numbers and self.numbers[name].missing_flag:
            return [name, f"{name} missing"]
        return [name]

    def _encode(self, name: str, values: Any, target: npt.NDArray[np.float32]) -> None:
        codes = self._indexes[name].get_indexer(pd.Index(values, dtype=object))  # -1 where unknown
        if self.plan.one_hot:
            target[:] = 0
            target[np.arange(len(codes)), codes] = 1  # -1 is the last column: unknown
        else:
            target[:, 0] = codes


def as_float32(values: Any) -> npt.NDArray[np.float32]:
    """A column as float32, infinities and what has no number as NaN."""
    array = np.asarray(values)
    if array.dtype == object:
        array = pd.to_numeric(pd.Series(array), errors="coerce").to_numpy(np.float64)
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isinf(array).any():
        return array
    return np.where(np.isinf(array), np.float32(np.nan), array)


def _step(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A step of a sequence: the logarithm of 1 + value, -1 where there is no such step."""
    return np.where(np.isnan(values), np.float32(-1), np.log1p(np.maximum(values, 0)))


def _vocabulary(values: Any, limit: int) -> tuple[str, ...]:
    """The most frequent words; equally frequent ones by name, so that the order of rows does not matter."""
    counts = pd.Series(values, dtype=object).value_counts(dropna=True)
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], str(entry[0])))
    return tuple(str(word) for word, _ in ranked[:limit])


def _fit_number(values: npt.NDArray[np.float32], quantile: float) -> NumberState:
    present = values[~np.isnan(values)].astype(np.float64)
    if not len(present):
        return NumberState(0.0, 0.0, log=False, centre=0.0, spread=1.0, missing_flag=False)
    low, high = (float(limit) for limit in np.quantile(present, [quantile, 1 - quantile]))
    capped = np.clip(present, low, high)
    deviation = capped.std()
    log = bool(deviation > 0 and np.mean(((capped - capped.mean()) / deviation) ** 3) > SKEWED)
    scaled = _log(capped) if log else capped
    spread = float(scaled.std())
    return NumberState(low, high, log, float(scaled.mean()), spread if spread > 0 else 1.0, len(present) < len(values))


def _scale(values: npt.NDArray[np.float32], state: NumberState, target: npt.NDArray[np.float32]) -> None:
    capped = np.clip(values.astype(np.float64), state.low, state.high)
    scaled = ((_log(capped) if state.log else capped) - state.centre) / state.spread
    missing = np.isnan(scaled)
    target[:, 0] = np.where(missing, 0.0, scaled)  # the centre: imputed by the mean
    if state.missing_flag:
        target[:, 1] = missing


def _log(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.sign(values) * np.log1p(np.abs(values))
