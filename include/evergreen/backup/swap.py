"""Puts a restored home in the place of another: what was there is moved aside, by renames that a later try finishes.

A home may hold other workspaces and folders on disks of their own (volumes), which cannot be renamed: the parts are
moved, and below a disk of its own, its parts.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from evergreen.files import write_whole
from evergreen.settings.workspace import FOLDER, OWNER, POINTER

DRAFT = ".restoring"
JOURNAL = "journal.json"
NEW = "home"
ASIDE = "replaced-"
# Of all workspaces, or of what runs and not of what it knows.
STAYS = frozenset({FOLDER, POINTER, OWNER, "logs", "backups", "sample", "sources"})


def occupied(home: Path) -> list[str]:
    """Names of what a restore would replace, sorted."""
    if not home.is_dir():
        return []
    return sorted(path.name for path in home.iterdir() if _is_replaced(path) and not _is_empty(path))


@dataclass(frozen=True)
class Journal:
    """A swap that was begun: where old parts go, which parts are old and new, and from which backup they are."""

    backup: str
    aside: str
    old: list[str]
    new: list[str]


def begin(home: Path, backup: Path, aside: str) -> Journal:
    """Notes that the draft in a home is whole: from now on it is put in place, also by a later try."""
    old = [str(path.relative_to(home)) for path in _parts(home, _mounts(home)) if _is_replaced(home / _top(path, home))]
    new = [str(path.relative_to(home / DRAFT / NEW)) for path in _new_parts(home)]
    journal = Journal(str(backup.absolute()), aside, old, new)
    write_whole(home / DRAFT / JOURNAL, json.dumps(asdict(journal)))
    return journal


def begun(home: Path) -> Journal | None:
    """The swap that was killed before its end, None where there is none."""
    file = home / DRAFT / JOURNAL
    return Journal(**json.loads(file.read_text())) if file.is_file() else None


def finish(home: Path, journal: Journal) -> None:
    """Moves the old parts aside and the new ones into place. Doing it again goes on from where it was killed."""
    aside, draft = home / journal.aside, home / DRAFT / NEW
    for name in journal.old:
        old, kept = home / name, aside / name
        if not old.exists() or kept.exists() or (name in journal.new and not (draft / name).exists()):
            continue  # moved before: what is there is new
        if _is_empty(old):
            _remove(old)
        else:
            _move(old, kept)
    for name in journal.new:
        if (draft / name).exists():
            _move(draft / name, home / name)
    (home / DRAFT / JOURNAL).unlink()
    discard(home)


def discard(home: Path) -> None:
    """Removes a draft that was not begun to be put in place."""
    shutil.rmtree(home / DRAFT, ignore_errors=True)


def _is_replaced(path: Path) -> bool:
    return path.name not in STAYS and path.name != DRAFT and not path.name.startswith(ASIDE)


def _is_empty(path: Path) -> bool:
    """Folders without files, such as those of empty volumes; the ledger's lock alone is nothing either."""
    return path.is_dir() and not any(one.is_file() and one.name != "ledger.lock" for one in path.rglob("*"))


def _top(path: Path, home: Path) -> str:
    return path.relative_to(home).parts[0]


def _mounts(home: Path) -> set[Path]:
    """Disks of their own below a home."""
    points = (Path(one.mountpoint) for one in psutil.disk_partitions(all=True))
    return {point for point in points if point != home and point.is_relative_to(home)}


def _parts(folder: Path, mounts: set[Path]) -> Iterator[Path]:
    """The highest paths below a folder that can be renamed."""
    for path in sorted(folder.iterdir()):
        if path in mounts or any(mount.is_relative_to(path) for mount in mounts):
            yield from _parts(path, mounts)
        else:
            yield path


def _new_parts(home: Path) -> Iterator[Path]:
    """Parts of the draft, cut where the home has a disk of its own."""
    draft = home / DRAFT / NEW
    return _parts(draft, {draft / mount.relative_to(home) for mount in _mounts(home)})


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copied = target.with_name(f".{target.name}{ASIDE}")
        _remove(copied)
        shutil.copytree(source, copied) if source.is_dir() else shutil.copy2(source, copied)
        copied.rename(target)
        _remove(source)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
