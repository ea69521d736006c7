"""What is too old to keep beside the lake: half-written files of killed tasks, logs, Airflow's own records."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evergreen.platform.airflow import LocalAirflow
from evergreen.settings import Settings
from evergreen.training.trained import RESULT

FOUND = re.compile(r"Found (\d+) rows meeting deletion criteria")


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be."""

    count: int = 0
    size_bytes: int = 0


def days_ago(days: int) -> datetime:
    """The moment so many days ago."""
    return datetime.now(UTC) - timedelta(days=days)


def remove_leftovers(settings: Settings, before: datetime, *, dry_run: bool = False) -> Removed:
    """Removes drafts and unfinished results in which nothing was written since `before`.

    Tasks write beside the place of what they make and rename it when it is whole; a killed one leaves its draft.
    """
    return _remove(_leftovers(settings), before, dry_run=dry_run)


def remove_manifests(settings: Settings, before: datetime, *, dry_run: bool = False) -> Removed:
    """Removes notes of what was staged: without the staged files, which vacuum removes, they are good for nothing."""
    return _remove((settings.lake_path / "staging").glob("*.json"), before, dry_run=dry_run)


def remove_logs(settings: Settings, before: datetime, *, dry_run: bool = False) -> Removed:
    """Removes logs of tasks and of the DAG processor that nothing was added to since `before`."""
    logs = settings.home_path / "logs"
    folders = [logs / "tasks", logs / "dag-processor"]
    removed = _remove((file for folder in folders for file in folder.rglob("*.log")), before, dry_run=dry_run)
    if not dry_run:
        for folder in folders:
            for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                if not any(inner.iterdir()):
                    inner.rmdir()
    return removed


def history_is_here(settings: Settings) -> bool:
    """Whether Airflow keeps its records in this workspace's own SQLite file: tasks may reach no other database."""
    return (LocalAirflow(settings).home / "airflow.db").exists()


def clean_history(settings: Settings, before: datetime, *, dry_run: bool = False) -> Removed:
    """Removes Airflow's records of runs that ended before a moment, by Airflow's own `db clean`.

    Raises:
        PlatformError: the command failed.
    """
    airflow = LocalAirflow(settings)
    command = ["db", "clean", "--clean-before-timestamp", before.isoformat(), "--skip-archive"]
    # A dry run counts; without it the command counts nothing that can be read.
    count = sum(map(int, FOUND.findall(airflow.output([*command, "--dry-run"]))))
    if count and not dry_run:
        airflow.output([*command, "--yes"])
    return Removed(count)


def _leftovers(settings: Settings) -> Iterator[Path]:
    home = settings.home_path
    yield from (home / "training_sets").glob(".draft.*")
    yield from (home / "models").glob(".*")
    yield from (home / "models" / "trained").glob("*/.*")
    yield from (
        folder
        for folder in (home / "models" / "trained").glob("*")
        if folder.is_dir() and not (folder / RESULT).exists()
    )
    yield from (home / "evidence").glob(".*")
    yield from (home / "reproductions").glob("*")


def _remove(paths: Iterable[Path], before: datetime, *, dry_run: bool) -> Removed:
    count = size = 0
    for path in list(paths):
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        stats = [file.stat() for file in files if file.exists()]
        if not stats or max(stat.st_mtime for stat in stats) >= before.timestamp():
            continue
        count += 1
        size += sum(stat.st_size for stat in stats)
        if not dry_run:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return Removed(count, size)
