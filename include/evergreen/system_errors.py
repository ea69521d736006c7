"""Errors of the operating system, told as errors that a person can act on."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from evergreen.errors import DiskFullError, PlatformError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Delta, DuckDB, SQLite and the JVM tell it in words alone.
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "file too large", "database or disk is full")


def disk_full(error: BaseException, folders: Iterable[Path | str]) -> DiskFullError | None:
    """What to say where an error means that a disk is full, None where it means something else.

    Writers name no folder when the space ends, and libraries wrap what the system said: the error's causes are looked
    through, and the fullest disk of those that a job writes to is named.

    Args:
        error: what a writer raised.
        folders: where this job writes, apart from the folder of temporary files.
    """
    if not any(_says_full(cause) for cause in _causes(error)):
        return None
    places = [_existing(Path(folder)) for folder in (*folders, tempfile.gettempdir())]
    place = min(places, key=lambda folder: shutil.disk_usage(folder).free)
    free = shutil.disk_usage(place).free
    return DiskFullError(
        f"the disk of {place} is full ({free / 1e6:,.1f} MB free): a file could not be written, and what was published "
        "before is whole. Free space there (or raise the quota), then run this again"
    )


def unusable_path(error: BaseException) -> PlatformError | None:
    """What to say where the system refused a path (permissions, a file for a folder), None for any other error."""
    if not isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError) and (
        not isinstance(error, OSError) or error.errno != errno.EROFS
    ):
        return None
    seen = f"{error.filename} ({error.strerror})" if error.filename else str(error).splitlines()[0]
    return PlatformError(
        f"{seen} cannot be used: expected a path that this user may read and write. Mend it, or name another"
    )


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(words in str(error).lower() for words in _FULL_WORDS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
