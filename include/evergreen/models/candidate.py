"""The interface behind which every model stands: a new one is a file in `candidates/` and an entry in settings."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.models import candidates
from evergreen.models.params import Ranges, Text, Value, resolve
from evergreen.models.preprocessing import Plan

Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Which rows of a larger set a sample holds, ascending, and the labels of all the set's rows."""

    rows: Rows
    all_labels: Labels


@dataclass(frozen=True)
class Sample:
    """Preprocessed rows: `matrix` is float32[rows, columns], `labels` int8[rows], `names` the columns in order.

    `drawn` says where the rows come from, if a model's `rows` left others out.
    """

    matrix: Matrix
    labels: Labels
    names: tuple[str, ...]
    drawn: Drawn | None = None

    def of(self, rows: Rows) -> Sample:
        """The sample of these rows of the set alone.

        Raises:
            ValueError: it does not hold all of them.
        """
        places = rows
        if self.drawn is not None:
            if np.array_equal(rows, self.drawn.rows):
                return self
            if missing := int((~np.isin(rows, self.drawn.rows, assume_unique=True)).sum()):
                raise ValueError(f"{missing} of {len(rows)} rows were not drawn, the sample must hold all of them")
            places = np.searchsorted(self.drawn.rows, rows)
        return Sample(self.matrix[places], self.labels[places], self.names, Drawn(rows, self.all_labels))

    @property
    def all_labels(self) -> Labels:
        """The labels of the set that the rows were drawn from: its own, where none was left out."""
        return self.labels if self.drawn is None else self.drawn.all_labels


@dataclass(frozen=True)
class Work:
    """A folder that outlives a killed trainer, and the digest of the spec that is trained in it."""

    folder: Path
    spec: str


@runtime_checkable
class Resumable(Protocol):
    """What a candidate has, too, whose training is long enough for checkpoints."""

    def keep_checkpoints(self, work: Work) -> None:
        """Where `fit` keeps checkpoints, and goes on from one that it finds there."""


@runtime_checkable
class ReadsTexts(Protocol):
    """What a candidate has, too, into which a text encoder of before can be plugged."""

    def take_text_encoder(self, folder: Path, digest: str) -> None:
        """Which one `fit` begins with. Raises TrainingError where it is not whole, or not the one of that digest."""


class Candidate(Protocol):
    """A model that learns from preprocessed rows and gives each row a score between 0 and 1.

    The bundle preprocesses before `fit` and `predict` by `plan` and calibrates after `predict`: what a candidate learns
    is all that its own files hold.
    """

    ranges: ClassVar[Ranges]
    plan: ClassVar[Plan]
    frameworks: ClassVar[tuple[str, ...]]  # distributions whose versions stand in the manifest

    @staticmethod
    def features(params: Mapping[str, Value], available: Sequence[str]) -> list[str]:
        """Names of the features that the model reads, in order; all of `available` for most."""

    @staticmethod
    def rows(params: Mapping[str, Value], labels: Labels, seed: int) -> Rows | None:
        """Which of the training rows the model reads, ascending; None for all. Others are not even preprocessed.

        A model that leaves rows out by their label weighs the others, or its probabilities are too high.
        """

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Learns from `train`; stops by `validation`, which holds other customers. Gives facts for the report."""

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores in (0, 1), float64[rows]."""

    def save(self, folder: Path) -> None:
        """Writes the model's files, in a format without code."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote."""


def known_models() -> list[str]:
    """Names of all models, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(candidates.__path__))


def candidate_class(model: str) -> type[Candidate]:
    """The class of a model by its name.

    Raises:
        TrainingError: no file of that name stands in `candidates/`.
    """
    if model not in known_models():
        raise TrainingError(f"model {model!r} is unknown, must be one of: {', '.join(known_models())}")
    module = importlib.import_module(f"{candidates.__name__}.{model}")
    return cast("type[Candidate]", module.CANDIDATE)


@dataclass(frozen=True)
class Models(Text):
    """Names of other models with commas between, for a model that is made of them."""

    but: str = ""  # the model that has the parameter

    def check(self, value: Value) -> Value:
        """The text. Raises ValueError with what is allowed."""
        names = self.split(str(super().check(value)))
        known = [name for name in known_models() if name != self.but]
        if not names or len(set(names)) < len(names) or not set(names) <= set(known):
            raise ValueError(f"must be different ones of: {', '.join(known)}, with commas between")
        return value

    @staticmethod
    def split(text: str) -> list[str]:
        """The names in their order."""
        return [name.strip() for name in text.split(",") if name.strip()]


def twin_params(model: str, params: Mapping[str, Value]) -> dict[str, Value]:
    """Parameters of a twin that learns from a sample of rows, defaults included.

    What a candidate lists as `apart` has its default: how the artefact is kept, or what comes from outside, is no
    matter of what the twin learns, and might be refused on few rows.

    Args:
        model: name of the model.
        params: those of a bundle's manifest.
    """
    kind = candidate_class(model)
    apart: Sequence[str] = getattr(kind, "apart", ())
    return resolve(model, {name: value for name, value in params.items() if name not in apart}, kind.ranges)


def frameworks_of(model: str, params: Mapping[str, Value]) -> list[str]:
    """Distributions that a model needs, and those of the models that it is made of, sorted.

    Args:
        model: name of the model.
        params: its parameters; those that are not given have their default.

    Raises:
        TrainingError: a model is unknown.
    """
    kind = candidate_class(model)
    found = set(kind.frameworks)
    for name, allowed in kind.ranges.items():
        if isinstance(allowed, Models):
            for member in Models.split(str(params.get(name, allowed.default))):
                found.update(frameworks_of(member, {}))
    return sorted(found)


def check_candidates(entries: Mapping[str, tuple[str, Mapping[str, Value]]]) -> dict[str, dict[str, Value]]:
    """Parameters of each named candidate, given as name -> (model, params), with defaults filled in.

    Raises:
        TrainingError: naming the settings key whose model or parameter is unknown or out of range.
    """
    resolved = {}
    for name, (model, params) in entries.items():
        try:
            resolved[name] = resolve(model, params, candidate_class(model).ranges)
        except TrainingError as error:
            raise TrainingError(f"settings.training.candidates.{name}: {error}") from None
    return resolved
