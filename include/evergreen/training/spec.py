"""The one file that a trainer reads: what to train, on which training set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergreen.errors import TrainingError
from evergreen.features.registry import AFFINITY
from evergreen.lake.digest import digest_json
from evergreen.models.candidate import ReadsTexts, candidate_class, check_candidates
from evergreen.models.network.encoder import digest_of
from evergreen.models.params import Value, resolve, stated
from evergreen.settings import Settings
from evergreen.settings.training import CandidateSettings
from evergreen.training.search.outcome import params_of


class TrainingSetRef(BaseModel):
    """Where a training set lies and which one it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class TextEncoderRef(BaseModel):
    """Where a text encoder of before lies and which one it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class TrainSpec(BaseModel):
    """Everything that decides a trained model, and the threads that may be used for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: str = Field(min_length=1)
    model: str = Field(min_length=1)
    params: dict[str, float | int | str | bool] = Field(default_factory=dict)
    seed: int = Field(ge=0)
    training_set: TrainingSetRef
    model_name: str = Field(min_length=1)
    threads: int = Field(1, ge=1, le=1024)
    text_encoder: TextEncoderRef | None = None

    def resolved(self) -> dict[str, Value]:
        """All parameters, defaults included.

        Raises:
            TrainingError: the model or a parameter is unknown, or a value is out of range.
        """
        return resolve(self.model, self.params, candidate_class(self.model).ranges)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the result: not the place of the files, not the number of threads."""
        decides = {
            "candidate": self.candidate,
            "model": self.model,
            "params": stated(self.resolved(), candidate_class(self.model).ranges),
            "seed": self.seed,
            "training_set": self.training_set.digest,
            "model_name": self.model_name,
        }
        return digest_json(decides | ({"text_encoder": self.text_encoder.digest} if self.text_encoder else {}))


def make_specs(
    settings: Settings, training_set: Mapping[str, Any], candidates: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A spec for each candidate of the settings that is enabled, or for those that are asked for, as JSON documents.

    One without parameters of its own has the best of a search, where `settings.training.search` says so.

    Args:
        settings: candidates, seed, threads.
        training_set: at least `folder`, `digest` and `day`, as in `TrainingSet.summary()`.
        candidates: names of candidates of the settings, enabled or not; none for all that are enabled.

    Raises:
        TrainingError: naming the candidate that is unknown, or whose model or parameter is unknown or out of range, or
            whose text encoder is missing or altered, or which reads factors while they are switched off.
    """
    training = settings.training
    check_candidates({name: (entry.model, entry.params) for name, entry in training.candidates.items()})
    if unknown := sorted(set(candidates) - set(training.candidates)):
        known = ", ".join(training.candidates)
        raise TrainingError(f"candidate {unknown[0]!r} is not in settings.training.candidates, must be one of: {known}")
    chosen = {
        name: entry
        for name, entry in training.candidates.items()
        if (name in candidates if candidates else entry.enabled)
    }
    _refuse_without_factors(settings, chosen)
    return [
        TrainSpec(
            candidate=name,
            model=entry.model,
            params=params_of(settings, entry.model, entry.params, date.fromisoformat(training_set["day"])),
            seed=training.seed,
            training_set=TrainingSetRef(folder=Path(training_set["folder"]), digest=training_set["digest"]),
            model_name=settings.mlflow.model_name,
            threads=training.trainer_threads,
            text_encoder=_text_encoder(name, entry),
        ).model_dump(mode="json")
        for name, entry in chosen.items()
    ]


def _refuse_without_factors(settings: Settings, chosen: Mapping[str, CandidateSettings]) -> None:
    for name, entry in chosen.items():
        if entry.params.get("feature") == AFFINITY and not settings.features.factors.enabled:
            raise TrainingError(
                f"candidate {name} reads {AFFINITY}, which is not made: set settings.features.factors.enabled to true "
                "and build the features of the day again"
            )


def _text_encoder(name: str, entry: CandidateSettings) -> TextEncoderRef | None:
    if entry.text_encoder is None:
        return None
    where = f"settings.training.candidates.{name}.text_encoder"
    if not issubclass(candidate_class(entry.model), ReadsTexts):
        raise TrainingError(f"{where} is set, but model {entry.model} reads no text: remove it")
    try:
        return TextEncoderRef(folder=entry.text_encoder, digest=digest_of(entry.text_encoder))
    except TrainingError as error:
        raise TrainingError(f"{where}: {error}") from None


def read_spec(file: Path) -> TrainSpec:
    """Reads and checks a spec file.

    Raises:
        TrainingError: the file cannot be read, or a key is missing, unknown or of the wrong type; names the key.
    """
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(f"training spec {file} cannot be read: {error}") from None
    try:
        return TrainSpec.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise TrainingError(f"training spec {file}: {where} is {first.get('input')!r}: {first['msg']}") from None
