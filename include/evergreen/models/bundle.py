"""Model bundles: a folder without code whose manifest holds the SHA-256 of every other file.

The digest of the manifest names the bundle. It holds no time, host or path, so that the same spec on the same data
gives the same digest; approvals and the ledger speak of bundles by it.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from evergreen.errors import BundleError, TrainingError
from evergreen.files import file_sha256
from evergreen.lake.digest import digest_json
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import Candidate, candidate_class, frameworks_of
from evergreen.models.preprocessing import Columns, FeatureKind, Preprocessor

FORMAT = "evergreen.bundle/1"
MANIFEST = "bundle.json"
PREPROCESSING = "preprocessing.json"
CALIBRATION = "calibration.json"
DTYPES: dict[FeatureKind, str] = {"number": "float32", "category": "string", "sequence": "float32", "text": "string"}


@dataclass(frozen=True)
class Bundle:
    """A trained model with everything that it needs to turn features into probabilities."""

    manifest: Mapping[str, Any]
    preprocessor: Preprocessor
    candidate: Candidate
    calibration: BetaCalibration

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical manifest, 64 hex digits."""
        return digest_json(self.manifest)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that `predict` reads, in order."""
        return tuple(name for name, _ in self.preprocessor.features)

    def scores(self, frame: Columns) -> npt.NDArray[np.float64]:
        """The candidate's scores before calibration, float64[rows]."""
        missing = [name for name in self.features if name not in frame]
        if missing:
            raise BundleError(
                f"model {self.manifest['candidate']} needs feature {missing[0]!r}, which the input lacks"
                + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
            )
        rows = len(frame[self.features[0]])
        if not rows:
            return np.zeros(0)
        return self.candidate.predict(self.preprocessor.transform(frame, rows))

    def predict(self, frame: Columns) -> npt.NDArray[np.float64]:
        """Calibrated probabilities, float64[rows].

        Args:
            frame: a DataFrame, or arrays by name; what the model does not know is not looked at.

        Raises:
            BundleError: naming a feature that is missing.
        """
        return self.calibration.apply(self.scores(frame))


def make_manifest(
    *,
    model_name: str,
    candidate: str,
    model: str,
    params: Mapping[str, Any],
    seed: int,
    features: Sequence[tuple[str, FeatureKind]],
    service: str,
    spec_digest: str,
    training_set: Mapping[str, Any],
    report: Mapping[str, Any],
    text_encoder: str = "",
) -> dict[str, Any]:
    """What a bundle says of itself, apart from its files' digests, which `save_bundle` adds.

    Args:
        model_name: name under which the bundle will be registered.
        candidate: name of the settings entry.
        model: name of the file in `candidates/`.
        params: all parameters, defaults included.
        seed: seed of the training.
        features: (name, kind) in order: the signature of the input.
        service: Feast feature service that gives them.
        spec_digest: digest of the training spec.
        training_set: digest, day, as_ofs, holdout and horizon of the training set.
        report: facts of the fit, such as the best iteration.
        text_encoder: digest of the text encoder that was plugged in; empty for none, and then not in the manifest.
    """
    frameworks = {"numpy", "pandas", *frameworks_of(model, params)}
    python = ".".join(platform.python_version_tuple()[:2])  # an image may have another patch release than its host
    return {
        "format": FORMAT,
        "model_name": model_name,
        "candidate": candidate,
        "model": model,
        "params": dict(params),
        "seed": seed,
        "features": [{"name": name, "dtype": DTYPES[kind]} for name, kind in features],
        "service": service,
        "spec_digest": spec_digest,
        "training_set": dict(training_set),
        "report": dict(report),
        "frameworks": {"python": python, **{name: version(name) for name in sorted(frameworks)}},
        **({"text_encoder": text_encoder} if text_encoder else {}),
    }


def save_bundle(
    folder: Path,
    manifest: Mapping[str, Any],
    preprocessor: Preprocessor,
    candidate: Candidate,
    calibration: BetaCalibration,
) -> Bundle:
    """Writes a bundle in one step (written beside, then renamed); one that lies at `folder` already is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{uuid4().hex}"
    draft.mkdir()
    try:
        candidate.save(draft)
        (draft / PREPROCESSING).write_text(_text(preprocessor.to_json()))
        (draft / CALIBRATION).write_text(_text(calibration.to_json()))
        files = {name: file_sha256(draft / name) for name in _files(draft)}
        complete = {**manifest, "files": files}
        bundle = Bundle(complete, preprocessor, candidate, calibration)
        (draft / MANIFEST).write_text(_text({"digest": bundle.digest, "manifest": complete}))
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return bundle


def load_bundle(folder: Path | str, digest: str = "") -> Bundle:
    """Reads a bundle after every digest was verified.

    Args:
        folder: where the bundle lies.
        digest: the digest that it must have; empty where any whole bundle will do.

    Raises:
        BundleError: a file is missing, altered or not in the manifest, the digest is another one, or the model is
            unknown to this code.
    """
    folder = Path(folder)
    manifest = _verified_manifest(folder, digest)
    try:
        kind = candidate_class(str(manifest["model"]))
    except TrainingError as error:
        raise BundleError(f"bundle {folder}: {error}. It was made by other code than this") from None
    try:
        return Bundle(
            manifest,
            Preprocessor.from_json(json.loads((folder / PREPROCESSING).read_text())),
            kind.load(folder),
            BetaCalibration.from_json(json.loads((folder / CALIBRATION).read_text())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {folder} cannot be read: {error!r}") from error


def store_bundle(folder: Path, models: Path) -> Path:
    """Copies a verified bundle to `models/<digest>` in one step and gives that folder. One that is there is kept."""
    bundle = load_bundle(folder)
    target = models / bundle.digest
    if target.exists():
        load_bundle(target, bundle.digest)
        return target
    models.mkdir(parents=True, exist_ok=True)
    draft = models / f".{bundle.digest}.{uuid4().hex}"
    try:
        shutil.copytree(folder, draft)
        draft.rename(target)
    except OSError:
        if not target.exists():
            raise
        load_bundle(target, bundle.digest)  # another process stored the same bundle first
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _verified_manifest(folder: Path, digest: str) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise BundleError(f"bundle {folder} has no {MANIFEST}: it is no bundle, or not a whole one")
    try:
        document = json.loads(file.read_text())
        manifest, stated = dict(document["manifest"]), str(document["digest"])
        files = dict(manifest["files"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {folder}: {MANIFEST} cannot be read: {error!r}") from None
    computed = digest_json(manifest)
    if computed != stated:
        raise BundleError(f"bundle {folder}: {MANIFEST} was altered, its digest is {computed[:12]}, not {stated[:12]}")
    if digest and computed != digest:
        raise BundleError(f"bundle {folder} has digest {computed[:12]}, expected {digest[:12]}")
    if manifest.get("format") != FORMAT:
        raise BundleError(f"bundle {folder} has format {manifest.get('format')!r}, this code reads {FORMAT!r}")
    present = set(_files(folder)) - {MANIFEST}
    for name in sorted(present | set(files)):
        if name not in present:
            raise BundleError(f"bundle {folder}: file {name} is missing")
        if name not in files:
            raise BundleError(f"bundle {folder}: file {name} is not in its manifest")
        if file_sha256(folder / name) != files[name]:
            raise BundleError(f"bundle {folder}: file {name} was altered, its SHA-256 is not the manifest's")
    return manifest


def _files(folder: Path) -> list[str]:
    """Paths of all files below a folder, relative to it, with `/` between parts."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _text(document: Any) -> str:
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False)
