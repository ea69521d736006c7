"""Puts back what must never change and did: files of models and evidence, one by one, while everything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from evergreen.backup.check import without_bundle
from evergreen.backup.manifest import HOME, Manifest, StoredFile, copy_file, digest_of, read_manifest
from evergreen.backup.steps import Steps, full_disk_named
from evergreen.errors import BackupError
from evergreen.promotion import champion
from evergreen.promotion.champion import bundle_folder
from evergreen.promotion.ledger import Ledger
from evergreen.settings import Settings

ARTEFACTS = ("models", "evidence")
"""Folders of a home whose files are named by digests: one that differs was damaged."""


@dataclass(frozen=True)
class Mended:
    """What was put back."""

    backup: Path
    manifest: Manifest
    files: tuple[str, ...]  # places in the home
    steps: Steps


def mend(settings: Settings, backup: Path, steps: Steps | None = None) -> Mended:
    """Compares models and evidence with a backup and puts back the files that are missing or altered.

    Nothing else of the home is touched, nothing has to be stopped, and a file is there whole or as it was. The ledger
    notes which files were put back.

    Args:
        settings: the home.
        backup: folder of the backup.
        steps: is told what is done.

    Raises:
        BackupError: the backup itself lacks a file that is needed, or has it altered.
        BundleError: the champion's bundle is not whole all the same: it is younger than the backup.
    """
    from evergreen.models.bundle import load_bundle

    steps, home = steps or Steps(), settings.home_path
    manifest = read_manifest(backup)
    with Ledger(settings).record("restore_artefacts") as entry, full_disk_named(home):
        with steps.step("compare") as step:
            wanted = {name: one for name, one in manifest.files.items() if name.split("/")[:2] in _FOLDERS}
            damaged = {name: one for name, one in wanted.items() if not _is(home / name.removeprefix(f"{HOME}/"), one)}
            step.detail = f"{len(wanted):,} files, {len(damaged)} missing or altered"
        with steps.step("put back") as step:
            for name, stated in damaged.items():
                _put_back(backup / name, home / name.removeprefix(f"{HOME}/"), stated)
            files = tuple(name.removeprefix(f"{HOME}/") for name in damaged)
            step.detail = f"{len(files)} files"
        with steps.step("check") as step:
            if present := champion.current(settings):
                load_bundle(bundle_folder(settings, present.bundle_digest), present.bundle_digest)
            lacking = without_bundle(settings)
            step.detail = f"champion {present.version if present else 'none'}, {len(lacking)} earlier bundles missing"
        entry.add(
            resources_affected=(f"backup:{manifest.digest}", *(f"file:{name}" for name in files)),
            metrics={"compared": len(wanted), "put_back": len(files), "seconds": steps.seconds},
        )
    return Mended(backup, manifest, files, steps)


_FOLDERS = [[HOME, name] for name in ARTEFACTS]


def _is(path: Path, stated: StoredFile) -> bool:
    return path.is_file() and path.stat().st_size == stated.size and digest_of(path) == stated


def _put_back(source: Path, target: Path, stated: StoredFile) -> None:
    draft = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        if not source.is_file() or copy_file(source, draft, durable=True) != stated:
            raise BackupError(f"{source} is missing or was altered, and {target} too: use another backup")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
