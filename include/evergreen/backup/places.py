"""Where backups lie: `<folder>/<workspace>/<time in UTC>`, and what beside them is no backup."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from evergreen.backup.manifest import MANIFEST, is_whole
from evergreen.errors import BackupError
from evergreen.settings import Settings
from evergreen.settings.workspace import workspaces

NAME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z(-\d+)?")
DRAFT, DRILL = ".draft.", ".drill."
NOBODY = "home"


def workspace_name(settings: Settings) -> str:
    """Name of the workspace that commands work on, as a folder may be called; `home` before a source was run."""
    found = (one.name for one in workspaces(settings.root_path) if one.folder == settings.home_path)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", next(found, NOBODY)).strip("-") or NOBODY


def backups_folder(settings: Settings) -> Path:
    """Folder of this workspace's backups, absolute."""
    return _all_backups(settings) / workspace_name(settings)


def backups(folder: Path) -> list[Path]:
    """Backups in a folder, newest first. A folder without a manifest is none."""
    found = [path for path in folder.glob("*") if NAME.fullmatch(path.name) and (path / MANIFEST).is_file()]
    return sorted(found, reverse=True)


def newest(folder: Path) -> Path:
    """The newest backup in a folder.

    Raises:
        BackupError: there is none.
    """
    found = backups(folder)
    if not found:
        raise BackupError(f"there is no backup in {folder}: ./evergreen backup makes one")
    return found[0]


def newest_to_restore(settings: Settings) -> Path:
    """The newest backup of this workspace; where the home is lost with its name, of the only one that has any.

    Raises:
        BackupError: there is none, or there are several and nothing says which is meant.
    """
    folder = backups_folder(settings)
    if backups(folder) or folder.name != NOBODY:
        return newest(folder)
    found = [path for path in sorted(_all_backups(settings).glob("*")) if path.is_dir() and backups(path)]
    if len(found) > 1:
        raise BackupError(
            f"{settings.root_path} says no more whose it was, and there are backups of {len(found)} workspaces: name "
            f"one, such as {newest(found[0])}"
        )
    return newest(found[0] if found else folder)


def new_name(folder: Path) -> str:
    """A name for a backup that is made now; two within a second are told apart."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    names = [now, *(f"{now}-{number}" for number in range(2, 100))]
    return next(name for name in names if not (folder / name).exists())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One at a time makes, removes or tries backups of a workspace; what a killed one left is removed first.

    Raises:
        BackupError: somebody else does.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the process dies
        except OSError:
            raise BackupError(
                f"another backup or drill is at work in {folder}: expected to be alone, wait until it ends"
            ) from None
        _clean(folder)
        yield


def prune(folder: Path, keep: int) -> list[str]:
    """Removes backups that are older than the newest `keep` whole ones; gives their names.

    One that is not whole does not count, so that the newest whole one always stays.
    """
    whole, removed = 0, []
    for path in backups(folder):
        if whole >= keep:
            (path / MANIFEST).unlink()  # from now on it is no backup, whatever happens to the rest
            shutil.rmtree(path)
            removed.append(path.name)
        elif is_whole(path):
            whole += 1
    return removed


def _all_backups(settings: Settings) -> Path:
    root, given = settings.root_path, settings.backup.folder
    return root.parent / given if given else root.with_name(f"{root.name}-backups")


def _clean(folder: Path) -> None:
    for path in folder.iterdir():
        left_over = path.name.startswith((DRAFT, DRILL))
        no_backup = NAME.fullmatch(path.name) and not (path / MANIFEST).exists()
        if path.is_dir() and (left_over or no_backup):
            shutil.rmtree(path)
