"""Digests of code, lock file and settings, and the commit: from what a model was made, beside its data."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

from evergreen.lake.digest import digest_json
from evergreen.settings import Settings
from evergreen.settings.tree import PROJECT

PACKAGE = Path(__file__).resolve().parents[1]
CODE = ("features", "models", "training")  # the packages that decide what a model is
LOCKS = PROJECT / "requirements"
UNKNOWN = "unknown"


def code_digest() -> str:
    """SHA-256 over the sources of the packages that decide what a model is."""
    return _digest(sorted(file for folder in CODE for file in (PACKAGE / folder).rglob("*.py")), PACKAGE)


def lock_digest() -> str:
    """SHA-256 over the lock files, empty where the project was installed without them."""
    files = sorted(LOCKS.glob("*.lock"))
    return _digest(files, LOCKS) if files else ""


def revision() -> str:
    """The commit, with `-dirty` where files differ from it.

    An image has neither git nor the history: there it is what the build was told (EVERGREEN_REVISION). Else `unknown`.
    """
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return _built_from()
    return done.stdout.strip() if done.returncode == 0 else _built_from()


def settings_digest(settings: Settings) -> str:
    """SHA-256 of the settings that a result may depend on: all but where things lie, run and are shown."""
    nowhere = {"home", "logging", "airflow", "mlflow", "spark", "container", "maintenance", "broker"}
    parts: dict[str, Any] = {
        "feature_store": {"registry_url", "online_url"},
        "promotion": {"ledger_url"},
        "training": {"runtime": True, "search": {"storage_url"}},
    }  # URLs hold passwords
    document = settings.model_dump(mode="json", exclude={**dict.fromkeys(nowhere, True), **parts})
    return digest_json(document)


def _built_from() -> str:
    return os.environ.get("EVERGREEN_REVISION") or UNKNOWN


def _digest(files: list[Path], root: Path) -> str:
    hasher = hashlib.sha256()
    for file in files:
        hasher.update(f"{file.relative_to(root).as_posix()}\0".encode())
        hasher.update(hashlib.sha256(file.read_bytes()).digest())
    return hasher.hexdigest()
