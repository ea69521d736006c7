"""The way back: a backup is verified, copied to a draft, checked there as a home, and put in place by renames."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from evergreen.backup import swap
from evergreen.backup.check import check_home, standing_alone, verify
from evergreen.backup.ledger_rows import held_entries, import_rows, read_rows
from evergreen.backup.manifest import HOME, Manifest, copy_file, read_manifest
from evergreen.backup.places import DRILL, NOBODY, backups_folder, locked, newest, workspace_name
from evergreen.backup.steps import Steps, full_disk_named
from evergreen.errors import BackupError
from evergreen.platform.airflow import LocalAirflow
from evergreen.platform.mlflow import LocalMlflow
from evergreen.promotion.database import ledger_folder
from evergreen.promotion.ledger import FAILURE, Entry, Ledger
from evergreen.settings import Settings
from evergreen.settings.workspace import OWNER
from evergreen.training.provenance import settings_digest

# Where MLflow's database says in which folder a run's files lie.
_URIS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    home: Path
    backup: Path
    manifest: Manifest
    aside: Path | None  # where what was there before lies now
    notes: list[str]
    steps: Steps = field(default_factory=Steps)

    @property
    def materialize(self) -> str:
        """Command that fills the online store; empty where no features were released."""
        day = self.manifest.releases.get("features", {}).get("day", "")
        return f"""./evergreen airflow dags test build_features -c '{{"day": "{day}"}}'""" if day else ""


def restore(
    settings: Settings, backup: Path, steps: Steps | None = None, *, to: Path | None = None, replace: bool = False
) -> Restored:
    """Puts what a backup holds where commands work, or into another home.

    Nothing of the home is touched before the backup is verified and its copy is whole. Killed while it puts the copy in
    place, doing it again finishes that.

    Args:
        settings: the home, and where the ledger's database is.
        backup: folder of the backup.
        steps: is told what is done.
        to: another home.
        replace: what is there is moved aside, into a folder of its own.

    Raises:
        BackupError: the backup is not whole, the home is not empty or of another source, or its Airflow runs.
        DiskFullError: the copy did not fit; the home is what it was.
    """
    steps, began = steps or Steps(), perf_counter()
    target = settings if to is None else settings.model_copy(update={"home": to.expanduser().absolute()})
    home = target.home_path
    had_ledger = (ledger_folder(target) / "ledger.db").is_file() or (to is None and bool(settings.promotion.ledger_url))
    try:
        with full_disk_named(home, backup):
            done = _restore(target, backup, steps, replace=replace)
    except Exception as error:
        if had_ledger and not swap.begun(home):
            refused = Entry("restore", outcome=FAILURE, error_detail=f"{type(error).__name__}: {error}")
            with suppress(SQLAlchemyError, OSError):  # a ledger that cannot be read may be why it is restored
                _note(target, backup, began, refused)
        raise
    _note(
        target,
        backup,
        began,
        Entry(
            "restore",
            str((done.manifest.champion or {}).get("version", "")),
            resources_affected=(f"backup:{done.manifest.digest}", *([f"replaced:{done.aside}"] if done.aside else [])),
            metrics={"files": len(done.manifest.files), "bytes": done.manifest.size, "seconds": steps.seconds},
        ),
    )
    return done


def drill(settings: Settings, steps: Steps | None = None) -> Restored:
    """Restores the newest backup into a folder that is removed again, with every check of a real restore.

    The ledger notes it with the seconds of each step.

    Raises:
        BackupError: there is no backup, or it cannot be restored.
    """
    steps = steps or Steps()
    folder = backups_folder(settings)
    backup = newest(folder)
    with Ledger(settings).record("restore_drill") as entry, full_disk_named(folder), locked(folder):
        place = folder / f"{DRILL}{uuid4().hex}"
        try:
            manifest = verify(settings, backup, steps)
            _fill(settings, backup, manifest, place / HOME, steps)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        entry.add(resources_affected=(f"backup:{manifest.digest}",), metrics={"seconds": steps.seconds})
    return Restored(place / HOME, backup, manifest, None, [], steps)


def _restore(settings: Settings, backup: Path, steps: Steps, *, replace: bool) -> Restored:
    home = settings.home_path
    _refuse_running(settings)
    journal = swap.begun(home)
    if journal is None:
        swap.discard(home)
        _refuse_occupied(settings, replace=replace)
        manifest = verify(settings, backup, steps)
        _refuse_other(settings, manifest, replace=replace)
        _fill(settings, backup, manifest, home / swap.DRAFT / swap.NEW, steps)
        if home == settings.root_path and not (home / OWNER).exists() and (backup / HOME / OWNER).is_file():
            copy_file(backup / HOME / OWNER, home / OWNER)
        journal = swap.begin(home, backup, f"{swap.ASIDE}{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}")
    elif journal.backup != str(backup.absolute()):
        raise BackupError(
            f"a restore of {journal.backup} into {home} was killed while it was put in place: expected the same one, "
            "which finishes it. Restore that one first"
        )
    else:
        manifest = read_manifest(backup)
    with steps.step("put in place") as step:
        if settings.promotion.ledger_url:
            schema = journal.aside.replace("-", "_").lower()
            import_rows(settings, read_rows(backup), aside=schema if replace else "")
        swap.finish(home, journal)
        step.detail = str(home)
    aside = home / journal.aside
    return Restored(home, backup, manifest, aside if aside.is_dir() else None, _notes(settings, manifest), steps)


def _fill(settings: Settings, backup: Path, manifest: Manifest, place: Path, steps: Steps) -> None:
    """Makes a home of a backup and checks it; its ledger is a file, whatever database the settings name."""
    with steps.step("copy") as step:
        for name, stated in manifest.files.items():
            if name.startswith(f"{HOME}/") and name != f"{HOME}/{OWNER}":
                inside = name.removeprefix(f"{HOME}/")
                if copy_file(backup / name, place / inside) != stated:
                    raise BackupError(f"file {name} of {backup} was altered while it was copied: restore again")
        step.detail = f"{len(manifest.files):,} files, {manifest.size / 1e6:,.1f} MB"
    alone = standing_alone(settings, place, manifest.lake)
    import_rows(alone, read_rows(backup))
    check_home(alone, manifest, steps, "restored ")
    with steps.step("registries") as step:
        step.detail = (
            f"{_move_uris(place / 'mlflow' / 'mlflow.db', manifest.home, _final(settings, place))} places of files"
        )
    if settings.promotion.ledger_url:
        (place / "ledger" / "ledger.db").unlink()


def _final(settings: Settings, place: Path) -> Path:
    return settings.home_path if place.is_relative_to(settings.home_path / swap.DRAFT) else place


def _refuse_running(settings: Settings) -> None:
    services = [*LocalAirflow(settings).services.values(), LocalMlflow(settings).service]
    if running := [service.name for service in services if service.pid]:
        raise BackupError(
            f"{', '.join(running)} of {settings.home_path} runs: expected it to be down. ./evergreen down stops it"
        )


def _refuse_occupied(settings: Settings, *, replace: bool) -> None:
    home = settings.home_path
    if replace:
        return
    if found := swap.occupied(home):
        more = ", ..." if len(found) > 3 else ""
        raise BackupError(
            f"{home} is not empty ({', '.join(found[:3])}{more}): expected an empty home. --replace moves it "
            "aside, --to HOME restores elsewhere"
        )
    if settings.promotion.ledger_url and (entries := held_entries(settings)):
        raise BackupError(
            f"the ledger's database holds {entries} entries: expected an empty one. --replace moves its tables aside"
        )


def _refuse_other(settings: Settings, manifest: Manifest, *, replace: bool) -> None:
    here = workspace_name(settings)
    if replace and swap.occupied(settings.home_path) and here not in (manifest.workspace, NOBODY):
        raise BackupError(
            f"the backup is of workspace {manifest.workspace!r}, {settings.home_path} is {here!r}'s: expected its own. "
            f"./evergreen workspace use {manifest.workspace} goes there, --to HOME restores elsewhere"
        )
    if settings.lake.location != manifest.lake:
        raise BackupError(
            f"settings.lake.location is {settings.lake.location!r}, the backup's is {manifest.lake!r}: set it so"
        )


def _notes(settings: Settings, manifest: Manifest) -> list[str]:
    notes = [f"not in the backup: {one['what']}: {one['why']}" for one in manifest.left_out]
    if settings_digest(settings) != manifest.settings_digest:
        notes.append("settings are not those of the backup: what comes next may differ from what would have come there")
    return notes


def _move_uris(database: Path, old: str, new: Path) -> int:
    """Lets MLflow's runs find their files in another home; gives how many places were changed."""
    before, after = Path(old).as_uri() + "/", new.absolute().as_uri() + "/"
    if before == after or not database.is_file():
        return 0
    changed = 0
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _URIS:
            if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
                changed += connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, len(before), before),
                ).rowcount
    return changed


def _note(settings: Settings, backup: Path, began: float, entry: Entry) -> None:
    metrics = {**entry.metrics, "backup": str(backup)}
    seconds = round(perf_counter() - began, 3)
    Ledger(settings).append(dataclasses.replace(entry, metrics=metrics, duration_seconds=seconds))
