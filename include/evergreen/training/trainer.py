"""Trains one candidate from a spec and a training set into a bundle. Imports neither Airflow nor MLflow."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.models.bundle import make_manifest, save_bundle
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import Drawn, Matrix, ReadsTexts, Resumable, Sample, Work, candidate_class
from evergreen.models.params import stated
from evergreen.models.preprocessing import FeatureKind, Preprocessor
from evergreen.settings.machine import this_machine
from evergreen.training.dataset import INNER, TRAIN, StoredColumns, TrainingSet
from evergreen.training.spec import TrainSpec
from evergreen.training.splits import Split

SET_FACTS = ("as_ofs", "holdout", "horizon_days", "active_days", "inner_steps")  # of a training set, in the manifest
MEMORY_SHARE = 0.4  # of the machine's memory that the preprocessed rows may take; a model may need them twice


def train(spec: TrainSpec, out: Path, work: Path | None = None) -> dict[str, Any]:
    """Trains, calibrates on the early-stopping customers, measures on the selection customers, writes the bundle.

    The holdout's file is not opened, except that its bytes are verified against the manifest.

    Args:
        spec: what to train on what.
        out: folder of the bundle; one that is there is replaced.
        work: folder of checkpoints, from which a killed training goes on; None keeps none.

    Returns:
        candidate, model, bundle_digest, folder, inner (metrics on the selection customers), rows, best_iteration,
        features, seconds: a JSON document.

    Raises:
        TrainingError: parameters, labels or the training set cannot be used.
    """
    started = perf_counter()
    params = spec.resolved()
    model = candidate_class(spec.model)
    training_set = TrainingSet.open(spec.training_set.folder, spec.training_set.digest)
    kinds = dict(training_set.features)
    features: list[tuple[str, FeatureKind]] = [(name, kinds[name]) for name in model.features(params, list(kinds))]
    if model.plan.raw:
        features += training_set.raw

    candidate = model()
    if spec.text_encoder is not None:
        if not isinstance(candidate, ReadsTexts):
            raise TrainingError(f"the spec names a text encoder, but model {spec.model} reads no text: remove it")
        candidate.take_text_encoder(spec.text_encoder.folder, spec.text_encoder.digest)

    stored = StoredColumns(training_set.file(TRAIN))
    for name, _ in features:
        if name not in stored:
            raise TrainingError(f"training set {training_set.folder} lacks feature {name!r}, which its manifest lists")
    labels = stored.labels()
    rows = model.rows(params, labels, spec.seed)
    read = stored if rows is None else stored.take(rows)
    # What is scaled is fitted on the rows that are read; words alone cost little to count in all of them.
    preprocessor = Preprocessor.fit(model.plan, features, read if model.plan.scale else stored)
    train_sample = Sample(
        _matrix(preprocessor, read, work),
        read.labels(),
        preprocessor.names,
        None if rows is None else Drawn(rows, labels),
    )
    stopping = _inner(training_set, Split.EARLY_STOPPING, preprocessor)
    selection = _inner(training_set, Split.SELECTION, preprocessor)

    if work is not None and isinstance(candidate, Resumable):
        candidate.keep_checkpoints(Work(work, spec.digest))
    report = candidate.fit(train_sample, stopping, params, seed=spec.seed, threads=spec.threads)
    calibration = BetaCalibration.fit(candidate.predict(stopping.matrix), stopping.labels)
    inner = inner_metrics(selection.labels, calibration.apply(candidate.predict(selection.matrix)))

    content = training_set.manifest["content"]
    manifest = make_manifest(
        model_name=spec.model_name,
        candidate=spec.candidate,
        model=spec.model,
        params=stated(params, model.ranges),
        seed=spec.seed,
        features=features,
        service=content["service"],
        spec_digest=spec.digest,
        training_set={
            "digest": training_set.digest,
            "day": str(training_set.day),
            **{key: content[key] for key in SET_FACTS if key in content},
        },
        report=report,
        text_encoder="" if spec.text_encoder is None else spec.text_encoder.digest,
    )
    bundle = save_bundle(out, manifest, preprocessor, candidate, calibration)
    return {
        "candidate": spec.candidate,
        "model": spec.model,
        "bundle_digest": bundle.digest,
        "folder": str(out),
        "inner": inner,
        "rows": len(labels),
        "features": len(features),
        "best_iteration": report.get("best_iteration"),
        "seconds": round(perf_counter() - started, 2),
    }


def inner_metrics(labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float64]) -> dict[str, float]:
    """What candidates are compared by: ROC AUC, average precision, log loss, Brier score and calibration at large."""
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    return {
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "average_precision": float(average_precision_score(labels, probabilities)),
        "log_loss": float(log_loss(labels, probabilities, labels=[0, 1])),
        "brier": float(brier_score_loss(labels, probabilities)),
        "base_rate": float(labels.mean()),
        "mean_probability": float(probabilities.mean()),
    }


def _matrix(preprocessor: Preprocessor, columns: StoredColumns, work: Path | None) -> Matrix:
    """The preprocessed rows: in memory, or, where they would take too much of it, in a mapped file among the work."""
    held = int(MEMORY_SHARE * this_machine().memory_bytes) // (4 * len(preprocessor.names))  # rows
    if work is None or columns.rows <= held:
        return preprocessor.transform(columns, columns.rows)
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"rows-{os.getpid()}.npy"
    shape = (columns.rows, len(preprocessor.names))
    mapped: Matrix = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    file.unlink()  # the mapping keeps it, and nothing is left behind by who is killed
    for start in range(0, columns.rows, max(1, held // 2)):
        part = columns.take(np.arange(start, min(start + max(1, held // 2), columns.rows)))
        preprocessor.transform(part, part.rows, mapped[start : start + part.rows])
    return mapped


def _inner(training_set: TrainingSet, split: Split, preprocessor: Preprocessor) -> Sample:
    stored = StoredColumns(training_set.file(INNER), split)
    labels = stored.labels()
    return Sample(preprocessor.transform(stored, stored.rows), labels, preprocessor.names)
