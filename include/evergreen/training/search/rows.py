"""The rows of a fold, preprocessed once and mapped by every trial; and how parameters are judged on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.lake.digest import digest_json
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import Rows, Sample, candidate_class
from evergreen.models.params import Value
from evergreen.models.preprocessing import FeatureKind, Preprocessor
from evergreen.training.dataset import INNER, TRAIN, StoredColumns, TrainingSet
from evergreen.training.search.folds import Fold, FoldCustomers
from evergreen.training.splits import Split
from evergreen.training.trainer import inner_metrics

SIDES = ("train", "stopping", "validation")
FACTS = "rows.json"


@dataclass(frozen=True)
class FoldRows:
    """What a fold learns from, stops by, and is judged on."""

    train: Sample
    stopping: Sample
    validation: Sample

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each side, and how many of those that it is judged on were bought again."""
        sizes = {side: len(getattr(self, side).labels) for side in SIDES}
        return {**sizes, "validation_positives": int(self.validation.labels.sum())}


@dataclass(frozen=True)
class Question:
    """One set of parameters to be judged on one fold: all that a process needs to know."""

    training_set: TrainingSet
    fold: Fold
    customers: FoldCustomers
    model: str
    params: Mapping[str, Value]
    seed: int
    threads: int
    folder: Path  # of prepared rows


def judge(question: Question) -> dict[str, float]:
    """Trains on the fold and gives the metrics of its judged rows, as `evergreen.training.trainer.inner_metrics` does.

    Raises:
        TrainingError: one side of the fold has no row, or all its labels are the same.
    """
    model = candidate_class(question.model)
    rows = prepared_rows(question)
    train = rows.train
    chosen = model.rows(question.params, train.labels, question.seed)
    if chosen is not None:
        train = train.of(chosen)
    candidate = model()
    candidate.fit(train, rows.stopping, question.params, seed=question.seed, threads=question.threads)
    calibration = BetaCalibration.fit(candidate.predict(rows.stopping.matrix), rows.stopping.labels)
    return inner_metrics(rows.validation.labels, calibration.apply(candidate.predict(rows.validation.matrix)))


def prepared_rows(question: Question) -> FoldRows:
    """The rows of a question's fold: those that were prepared before, else prepared now.

    Two processes that prepare the same at once do no harm: one of the two folders stays.

    Raises:
        TrainingError: one side of the fold has no row, or all its labels are the same.
    """
    model = candidate_class(question.model)
    kinds = dict(question.training_set.features)
    features: list[tuple[str, FeatureKind]] = [
        (name, kinds[name]) for name in model.features(question.params, list(kinds))
    ]
    if model.plan.raw:
        features += question.training_set.raw
    key = digest_json(
        {
            "training_set": question.training_set.digest,
            "fold": [str(one) for one in (*question.fold.train, question.fold.validation)],
            "number": question.fold.number,
            "customers": asdict(question.customers),
            "features": [name for name, _ in features],
            "plan": asdict(model.plan),
        }
    )
    folder = question.folder / key[:32]
    if not (folder / FACTS).exists():
        _prepare(question, features, folder)
    names = tuple(json.loads((folder / FACTS).read_text())["names"])
    return FoldRows(*(_mapped(folder, side, names) for side in SIDES))


def _prepare(question: Question, features: list[tuple[str, FeatureKind]], folder: Path) -> None:
    fold, customers = question.fold, question.customers
    train = StoredColumns(question.training_set.file(TRAIN))
    inner = StoredColumns(question.training_set.file(INNER), Split.EARLY_STOPPING)
    read = customers.read(train["customer_id"])
    judged = customers.judged(train["customer_id"], fold)
    sides = {
        "train": train.take(_rows(_dated(train, *fold.train) & read & ~judged)),
        "stopping": inner.take(_rows(_dated(inner, *fold.train) & customers.read(inner["customer_id"]))),
        "validation": train.take(_rows(_dated(train, fold.validation) & read & judged)),
    }
    labels = {side: _labels(side, stored, fold) for side, stored in sides.items()}
    preprocessor = Preprocessor.fit(candidate_class(question.model).plan, features, sides["train"])
    draft = folder.with_name(f".{uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        for side, stored in sides.items():
            np.save(draft / f"{side}.npy", preprocessor.transform(stored, stored.rows))
            np.save(draft / f"{side}_labels.npy", labels[side])
        (draft / FACTS).write_text(json.dumps({"names": preprocessor.names}))
        if not folder.exists():
            draft.rename(folder)
    except OSError:
        if not (folder / FACTS).exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _mapped(folder: Path, side: str, names: tuple[str, ...]) -> Sample:
    matrix = np.load(folder / f"{side}.npy", mmap_mode="r")
    return Sample(matrix, np.load(folder / f"{side}_labels.npy"), names)


def _dated(stored: StoredColumns, *dates: date) -> npt.NDArray[np.bool_]:
    return np.isin(stored["as_of"].astype("datetime64[D]"), np.array(dates, "datetime64[D]"))


def _rows(mask: npt.NDArray[np.bool_]) -> Rows:
    return np.flatnonzero(mask)


def _labels(side: str, stored: StoredColumns, fold: Fold) -> npt.NDArray[np.int8]:
    try:
        return stored.labels()
    except TrainingError as error:
        raise TrainingError(
            f"the fold judged as of {fold.validation}, rows for {side}: {error}; or raise "
            "settings.training.search.customers_share or validation_share"
        ) from None
