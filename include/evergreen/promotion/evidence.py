"""Evidence: one canonical JSON document about one candidate. Its SHA-256 is what an approval names.

The document holds no clock and no path: the same inputs, code and settings give the same digest on every run. Its file
is its canonical text, so `sha256sum evidence/<digest>.json` prints its own name.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from evergreen.errors import PromotionRefusedError
from evergreen.lake.digest import canonical_json, digest_json
from evergreen.settings import Settings
from evergreen.settings.tree import PROJECT

FORMAT = "evergreen.evidence/1"
SOURCES = ("include", "plugins", "dags", "feature_repo")
SOURCE_SUFFIXES = frozenset({".py", ".yaml", ".yml", ".json", ".sql", ".toml"})


@dataclass(frozen=True)
class Evidence:
    """What promotion reads from a verified document."""

    digest: str
    document: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """promote, reject or inconclusive."""
        return str(self.document["verdict"])

    @property
    def version(self) -> str:
        """Version of the candidate in the model registry."""
        return str(self.document["model"]["version"])

    @property
    def bundle_digest(self) -> str:
        """Digest of the candidate's bundle."""
        return str(self.document["model"]["bundle_digest"])

    @property
    def data_day(self) -> date:
        """Newest day of the candidate's data."""
        return date.fromisoformat(self.document["data_day"])

    @property
    def generation(self) -> int:
        """Generation of the champion that it was compared with."""
        return int(self.document["champion"]["generation"])


def save_evidence(settings: Settings, document: Mapping[str, Any]) -> str:
    """Writes a document under its digest, whole or not at all, and gives the digest (64 hex digits)."""
    cleaned = plain(document)
    digest = digest_json(cleaned)
    write_atomically(evidence_path(settings, digest), canonical_json(cleaned))
    return digest


def load_evidence(settings: Settings, digest: str) -> Evidence:
    """Reads a document and checks that it still is what its digest says.

    Raises:
        PromotionRefusedError: there is no such document, or it was altered.
    """
    path = evidence_path(settings, digest)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise PromotionRefusedError(
            f"there is no evidence {digest[:12]} in {path.parent}: judge the candidate"
        ) from None
    seen = hashlib.sha256(text).hexdigest()
    if seen != digest:
        raise PromotionRefusedError(
            f"evidence {digest[:12]} was altered: {path} has the digest {seen[:12]}. Judge the candidate again."
        )
    return Evidence(digest, json.loads(text))


def evidence_path(settings: Settings, digest: str) -> Path:
    """Where the document with this digest lies."""
    return settings.home_path / "evidence" / f"{digest}.json"


def code_digest(project: Path = PROJECT) -> str:
    """SHA-256 over paths and contents of the source files of the product (not of tests and docs)."""
    paths = (path for folder in SOURCES for path in (project / folder).rglob("*"))
    return _digest_files(project, (path for path in paths if path.suffix in SOURCE_SUFFIXES))


def plain(value: Any) -> Any:
    """The value as JSON holds it: dates as ISO text, NumPy's numbers as Python's, NaN and infinities as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float)):
        return str(value) if isinstance(value, str) else value
    return value.isoformat() if isinstance(value, date) else str(value)


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that readers see the old content or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest_files(project: Path, paths: Iterable[Path]) -> str:
    named = sorted((path.relative_to(project), path) for path in paths if path.is_file())
    visible = [(name, path) for name, path in named if not any(part.startswith(".") for part in name.parts)]
    return digest_json([[name.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in visible])
