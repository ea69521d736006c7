"""Makes a backup: into a draft folder, checked as a home, then its manifest, then its name.

A file that the backup before holds with the same name, size and digest is not copied again: both have it (a hard link),
so that each backup is whole by itself and any of them can be removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from uuid import uuid4

from evergreen.backup.check import as_home, champion_of, check_home, without_bundle
from evergreen.backup.contents import NOTES, REPORTS, LakePart, bundles, lake_part, training_sets, tree
from evergreen.backup.ledger_rows import export_rows, head_of, texts
from evergreen.backup.manifest import (
    HOME,
    Manifest,
    StoredFile,
    copy_file,
    digest_of,
    read_manifest,
    write_manifest,
)
from evergreen.backup.places import DRAFT, backups, backups_folder, locked, new_name, prune, workspace_name
from evergreen.backup.steps import Steps, full_disk_named
from evergreen.errors import BackupError
from evergreen.files import write_whole
from evergreen.promotion import audit
from evergreen.promotion.ledger import Draft as LedgerDraft
from evergreen.promotion.ledger import Ledger, now_iso
from evergreen.settings import Settings
from evergreen.training.provenance import code_digest, settings_digest
from evergreen.training.search.outcome import outcome_files, search_folders
from evergreen.training.search.storage import STUDIES

SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Made:
    """A backup that was made."""

    folder: Path
    manifest: Manifest
    copied_bytes: int  # what the backup before did not hold
    removed: list[str]  # names of older backups
    steps: Steps


def make_backup(
    settings: Settings, steps: Steps | None = None, *, with_reports: bool = False, with_airflow: bool = False
) -> Made:
    """Backs up the workspace that commands work on, then removes backups that are too old.

    Args:
        settings: home, and where backups lie.
        steps: is told what is done.
        with_reports: also evaluations and reports.
        with_airflow: also Airflow's own records, where they are a file of this home.

    Raises:
        BackupError: there is nothing to back up, another backup is at work, or the home is not whole.
        DiskFullError: the backup did not fit; those before stay.
        LedgerError, BundleError: the home's ledger or its champion's bundle was changed: those before stay.
    """
    if not settings.lake_path.is_dir() and not (settings.home_path / "ledger").is_dir():
        raise BackupError(
            f"{settings.home_path} holds no lake and no ledger: expected a home. Run ./evergreen run first"
        )
    steps = steps or Steps()
    folder = backups_folder(settings)
    with full_disk_named(folder, settings.home_path), Ledger(settings).record("backup") as entry, locked(folder):
        made = _make(settings, folder, steps, with_reports=with_reports, with_airflow=with_airflow)
        _note(entry, made)
    return made


def _make(settings: Settings, folder: Path, steps: Steps, *, with_reports: bool, with_airflow: bool) -> Made:
    draft = _Draft(folder / f"{DRAFT}{uuid4().hex}", settings.home_path, _before(folder))
    try:
        manifest = _fill(draft, settings, steps, with_reports=with_reports, with_airflow=with_airflow)
        write_manifest(draft.folder, manifest)
        made = draft.folder.rename(folder / new_name(folder))
    except BaseException:
        shutil.rmtree(draft.folder, ignore_errors=True)
        raise
    with steps.step("older backups") as step:
        removed = prune(folder, settings.backup.keep)
        step.detail = f"{len(removed)} removed"
    return Made(made, manifest, draft.copied_bytes, removed, steps)


def _fill(draft: _Draft, settings: Settings, steps: Steps, *, with_reports: bool, with_airflow: bool) -> Manifest:
    home = settings.home_path
    left_out = [{"what": "online store", "why": "it is made anew from the lake: materialize"}]
    with steps.step("ledger") as step:
        audit.verify(settings).raise_if_broken()
        rows = export_rows(settings)
        for name, text in texts(rows).items():
            draft.add_text(text, name)
        step.detail = f"{head_of(rows)['entries']} entries"
    with steps.step("registries") as step:
        left_out += _registries(draft, settings, with_airflow=with_airflow)
        step.detail = draft.told()
    with steps.step("models and evidence") as step:
        draft.add_all(tree(home / "evidence"))
        stored = bundles(settings)
        draft.add_all(path for bundle in stored for path in tree(bundle))
        for one in training_sets(settings, stored):
            draft.add_all(tree(one) if one.is_dir() else [one])
        draft.add_all(path for name in NOTES if (path := home / name).is_file())
        step.detail = draft.told()
    with steps.step("searches") as step:
        left_out += _searches(draft, settings)
        step.detail = draft.told()
    with steps.step("lake") as step:
        lake = lake_part(settings)
        draft.add_all(lake.files)
        step.detail = draft.told()
    if with_reports:
        with steps.step("reports") as step:
            draft.add_all(path for name in REPORTS for path in tree(home / name))
            step.detail = draft.told()
    with steps.step("check"), as_home(settings, draft.folder, settings.lake.location) as seen:
        gone = [
            {"what": f"bundle {digest}", "why": "it is not in the home any more"} for digest in without_bundle(seen)
        ]
        manifest = _manifest(seen, settings, draft, lake, head_of(rows), (*left_out, *gone))
        check_home(seen, manifest, Steps())
    return manifest


def _registries(draft: _Draft, settings: Settings, *, with_airflow: bool) -> Iterator[dict[str, str]]:
    """Databases beside the ledger; gives what is left out."""
    home = settings.home_path
    if settings.mlflow_uri.startswith(SQLITE):
        draft.add_database(Path(settings.mlflow_uri.removeprefix(SQLITE)), home / "mlflow" / "mlflow.db")
        draft.add_all(tree(home / "mlflow" / "artifacts"))
    else:
        yield {"what": "MLflow", "why": "it is a server: pg_dump of its database, and a copy of its volume"}
    if settings.feature_store.registry_url:
        yield {"what": "Feast's registry", "why": "it is made anew from feature_repo: materialize"}
    elif (registry := home / "feast" / "registry.db").is_file():
        with _not_applied_to(home / "feast" / "apply.lock"):
            draft.add_all([registry])
    records = home / "airflow" / "airflow.db"
    if with_airflow and records.is_file():
        draft.add_database(records, records)
    else:
        why = "it was not asked for (--with-airflow)" if records.is_file() else "it is a server's: pg_dump"
        yield {"what": "Airflow's records", "why": why}


def _searches(draft: _Draft, settings: Settings) -> Iterator[dict[str, str]]:
    """What searches found, and their trials: trainings and later searches begin with it. Gives what is left out."""
    for folder in search_folders(settings):
        draft.add_all(outcome_files(folder))
        draft.add_database(folder / STUDIES, folder / STUDIES)
    if settings.training.search.storage_url:
        yield {"what": "trials of searches", "why": "they are a server's: pg_dump; what was found is in the backup"}


@contextmanager
def _not_applied_to(file: Path) -> Iterator[None]:
    """Feast writes its registry in place: whoever applies holds this lock."""
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _manifest(
    seen: Settings,
    settings: Settings,
    draft: _Draft,
    lake: LakePart,
    head: dict[str, object],
    left_out: tuple[dict[str, str], ...],
) -> Manifest:
    releases = {
        name: {"day": str(one.day), "sequence": one.sequence, "digest": one.digest, "versions": dict(one.versions)}
        for name, one in lake.releases.items()
    }
    return Manifest(
        workspace=workspace_name(settings),
        home=str(settings.home_path),
        profile=settings.profile,
        created_at=now_iso(),
        evergreen=_version(),
        code_digest=code_digest(),
        settings_digest=settings_digest(settings),
        lake=settings.lake.location,
        ledger=head,
        champion=champion_of(seen),
        releases=releases,
        tables=lake.tables,
        left_out=left_out,
        files=dict(sorted(draft.files.items())),
    )


def _version() -> str:
    try:
        return version("evergreen")
    except PackageNotFoundError:
        return ""


def _before(folder: Path) -> tuple[Path, Manifest] | None:
    """The newest backup whose manifest can be read: its files need not be copied again."""
    for path in backups(folder):
        try:
            return path, read_manifest(path)
        except BackupError:
            continue
    return None


def _note(entry: LedgerDraft, made: Made) -> None:
    manifest = made.manifest
    entry.add(
        resources_affected=(
            f"backup:{manifest.digest}",
            f"folder:{made.folder}",
            *(f"removed:{n}" for n in made.removed),
        ),
        metrics={
            "files": len(manifest.files),
            "bytes": manifest.size,
            "copied_bytes": made.copied_bytes,
            "ledger_entries": manifest.ledger["entries"],
            "ledger_head": manifest.ledger["head"],
            "seconds": made.steps.seconds,
        },
    )


@dataclass
class _Draft:
    """A backup that is being made."""

    folder: Path
    home: Path
    before: tuple[Path, Manifest] | None
    files: dict[str, StoredFile] = field(default_factory=dict)
    copied_bytes: int = 0
    _told: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        (self.folder / HOME).mkdir(parents=True, mode=0o700)  # a remembered source may hold a password

    def add_all(self, paths: Iterable[Path]) -> None:
        """Adds files of the home under their places in it."""
        for path in paths:
            try:
                self._add(path, f"{HOME}/{path.relative_to(self.home)}")
            except FileNotFoundError as error:
                raise BackupError(
                    f"{error.filename} was removed while it was backed up: expected it to stay. Run it again"
                ) from None

    def add_text(self, text: str, name: str) -> None:
        """Adds a file with this content."""
        write_whole(self.folder / name, text)
        self._keep(name, digest_of(self.folder / name), copied=True)

    def add_database(self, source: Path, place: Path) -> None:
        """Adds one consistent state of an SQLite database, whoever writes to it meanwhile."""
        if not source.is_file():
            return
        name = f"{HOME}/{place.relative_to(self.home)}"
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as reader,
            closing(sqlite3.connect(target)) as writer,
        ):
            reader.backup(writer)
        self._keep(name, digest_of(target), copied=True)

    def told(self) -> str:
        """What was added since this was last asked."""
        files, size = len(self.files), sum(file.size for file in self.files.values())
        before, self._told = self._told, (files, size)
        return f"{files - before[0]:,} files, {(size - before[1]) / 1e6:,.1f} MB"

    def _add(self, source: Path, name: str) -> None:
        target = self.folder / name
        stated = self.before[1].files.get(name) if self.before else None
        if self.before and stated and stated.size == source.stat().st_size and digest_of(source) == stated:
            target.parent.mkdir(parents=True, exist_ok=True)
            if _link(self.before[0] / name, target) and digest_of(target) == stated:
                return self._keep(name, stated, copied=False)
            target.unlink(missing_ok=True)  # the backup before was altered: its harm is not passed on
        return self._keep(name, copy_file(source, target, durable=True), copied=True)

    def _keep(self, name: str, file: StoredFile, *, copied: bool) -> None:
        self.files[name] = file
        self.copied_bytes += file.size if copied else 0


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # missing, or a disk without hard links
        return False
    return True
