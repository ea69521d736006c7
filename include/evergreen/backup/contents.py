"""What of a home is backed up: dependents before what they depend on.

Each part is listed after those that name it (ledger, MLflow, evidence, bundles, training sets, releases, tables), and
nothing of them is changed in place or removed while it is named: whatever is published meanwhile, all that the backup's
ledger and releases name is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergreen.errors import BackupError
from evergreen.ingest.sources import REMEMBERED
from evergreen.lake import Lake, Release, latest_release
from evergreen.models.bundle import MANIFEST as BUNDLE_MANIFEST
from evergreen.promotion.pins import pinned_versions
from evergreen.settings import Settings
from evergreen.settings.workspace import OWNER

NOTES = ("loaded.json", REMEMBERED, OWNER)
REPORTS = ("evaluations", "reports")
LOG = "_delta_log"
_DIGEST_DIGITS = 64
_TRIES = 100


@dataclass(frozen=True)
class LakePart:
    """The lake at one moment: what the newest releases and the pins name."""

    tables: Mapping[str, int]  # the newest version of each table that is backed up
    releases: Mapping[str, Release]
    files: tuple[Path, ...]


def tree(folder: Path) -> list[Path]:
    """Files below a folder, sorted; drafts, whose names begin with a dot, are left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def bundles(settings: Settings) -> list[Path]:
    """Folders of stored bundles."""
    folders = (settings.home_path / "models").glob("*")
    return sorted(path for path in folders if len(path.name) == _DIGEST_DIGITS and path.is_dir())


def training_sets(settings: Settings, of: list[Path]) -> Iterator[Path]:
    """Folders of the training sets that bundles were made from, and the notes by which they are found again."""
    root = settings.home_path / "training_sets"
    digests = {_training_set(bundle) for bundle in of}
    yield from (root / digest for digest in sorted(digests) if digest and (root / digest).is_dir())
    yield from (note for note in sorted((root / "index").glob("*.json")) if _read(note).get("digest") in digests)


def lake_part(settings: Settings) -> LakePart:
    """The lake's logs and files up to the newest released versions; tables without a release as they are.

    Commits that nobody released are left out: they are of a publish that is still at work, or was killed.

    Raises:
        BackupError: it does not lie in the home.
        PromotionRefusedError: a table's log does not tell what a version was made from.
    """
    if not settings.lake_path.is_relative_to(settings.home_path):
        raise BackupError(
            f"the lake lies in {settings.lake_path}, outside {settings.home_path}: expected it inside. Back it up with "
            "what backs up its disk, or set settings.lake.location"
        )
    lake = Lake(settings.lake_path)
    version, releases = _releases(lake)
    tables = lake.versions()
    if version is not None:
        tables["releases"] = version
    for table in tables:
        released = [one.versions[table] for one in releases.values() if table in one.versions]
        tables[table] = max(released, default=tables[table])
    pins = pinned_versions(settings)
    files: set[Path] = set()
    for table, newest in tables.items():
        root = lake.table(table).root
        files.update(path for path in (root / LOG).iterdir() if _commit(path) <= newest)
        for version in {newest, *(pin for pin in pins.get(table, ()) if pin <= newest)}:
            files.update(root / file.path for file in lake.table(table, version).files)
    return LakePart(tables, releases, tuple(sorted(files)))


def newest_releases(lake: Lake) -> dict[str, Release]:
    """The newest release of each name."""
    names = sorted(set(lake.table("releases").read(columns=["name"])["name"].to_pylist()))
    return {name: found for name in names if (found := latest_release(lake, name))}


def _releases(lake: Lake) -> tuple[int | None, dict[str, Release]]:
    """The newest releases, and the version of their table that holds just these."""
    for _ in range(_TRIES):
        version, found = lake.table("releases").version, newest_releases(lake)
        if lake.table("releases").version == version:
            return version, found
    raise BackupError(f"releases were made {_TRIES} times while they were read: expected a pause. Run it again")


def _commit(path: Path) -> int:
    """Version of a file of the log; beyond all where it has none, such as the note of the last checkpoint."""
    number = path.name.split(".")[0]
    return int(number) if number.isdigit() else 1 << 62


def _training_set(bundle: Path) -> str:
    manifest = _read(bundle / BUNDLE_MANIFEST).get("manifest", {})
    return str(manifest.get("training_set", {}).get("digest", ""))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
