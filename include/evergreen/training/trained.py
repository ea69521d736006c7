"""What was trained before: the same spec, code and packages give the same bundle, so it is not trained twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evergreen.errors import BundleError, TrainingError
from evergreen.lake.digest import digest_json
from evergreen.models.bundle import load_bundle
from evergreen.models.network.encoder import FOLDER
from evergreen.settings import Settings
from evergreen.training.provenance import code_digest, lock_digest
from evergreen.training.spec import TrainSpec

RESULT = "result.json"
BUNDLE = "bundle"
SPEC = "spec.json"


def train_once(
    settings: Settings, spec: Mapping[str, Any], run: Callable[[Path, list[str]], dict[str, Any]]
) -> dict[str, Any]:
    """The trainer's result for a spec: that of before, else what `run` gives.

    Args:
        settings: home.
        spec: the training spec, JSON.
        run: runs the trainer's entry point somewhere, given the folder that it writes to and its arguments.

    Raises:
        TrainingError: what was run is of other code than this.
    """
    folder = trained_folder(settings, spec)
    if result := trained_before(folder):
        return result
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC).write_text(json.dumps(_within(folder, spec)))
    result = run(folder, ["--spec", str(folder / SPEC), "--out", str(folder / BUNDLE)])
    if result.get("code_digest") != code_digest():
        raise TrainingError(
            f"the trainer's code is {str(result.get('code_digest'))[:12]}, this is {code_digest()[:12]}: "
            "its bundle is not used. Build the trainer's image anew from this code (./evergreen deploy)"
        )
    keep_trained(folder, result)
    return result


def _within(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with its text encoder copied to the folder: of all others a container sees the training set alone."""
    if not spec.get("text_encoder"):
        return dict(spec)
    target = folder / FOLDER
    shutil.copytree(spec["text_encoder"]["folder"], target, dirs_exist_ok=True)
    return {**spec, "text_encoder": {**spec["text_encoder"], "folder": str(target)}}


def trained_folder(settings: Settings, spec: Mapping[str, Any]) -> Path:
    """Folder of what a spec trains to, under `home/models/trained`: named for the spec, the code and the packages."""
    key = digest_json([TrainSpec.model_validate(spec).digest, code_digest(), lock_digest()])
    return settings.home_path / "models" / "trained" / key[:32]


def trained_before(folder: Path) -> dict[str, Any] | None:
    """The trainer's result in a folder, None where there is none or its bundle is no longer whole."""
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text())
        load_bundle(folder / BUNDLE, str(result["bundle_digest"]))
    except (OSError, KeyError, ValueError, BundleError):
        return None
    return result


def keep_trained(folder: Path, result: Mapping[str, Any]) -> None:
    """Notes a result beside its bundle, last and in one step: a folder without it was not finished."""
    draft = folder / f".{RESULT}"
    draft.write_text(json.dumps(dict(result)))
    draft.replace(folder / RESULT)
