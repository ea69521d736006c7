"""Errors that a person can act on: what was seen, what was expected, what to do."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Delta, DuckDB, SQLite and the JVM tell it in words alone.
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "file too large", "database or disk is full")


class EvergreenError(Exception):
    """Base of all errors that Evergreen raises on purpose.

    The message is one line: what was seen, what was expected, what to do next. The command line prints it behind
    `evergreen: ` and exits with 1; Airflow shows it as the task's failure.
    """


class SettingsError(EvergreenError):
    """A setting is unknown, has the wrong type or lies outside its limits."""


class SourceError(EvergreenError):
    """A source cannot be read, or its columns do not meet the contract."""


class SourceNotReadyError(SourceError):
    """The source has nothing for the day yet (later than its last day, or its drop has not landed)."""


class DataQualityError(EvergreenError):
    """An expectation marked `fail` does not hold on staged data: nothing was published."""


class PublishRefusedError(EvergreenError):
    """Another writer published the same day first: nothing of this attempt was committed."""


class LakeError(EvergreenError):
    """A table, version or day that was asked for is not in the lake."""


class FeatureStoreError(EvergreenError):
    """Online and offline features disagree, or a join lost or added rows."""


class TrainingError(EvergreenError):
    """A training spec or a training set cannot be used."""


class BundleError(EvergreenError):
    """A model bundle is incomplete, altered, or asks for a model that this code does not know."""


class PromotionRefusedError(EvergreenError):
    """Evidence, approval or champion state does not allow this promotion: the champion is unchanged."""


class LedgerError(EvergreenError):
    """The ledger's hash chain does not hold, or an entry cannot be written."""


class PlatformError(EvergreenError):
    """A part of the platform (Airflow, Java, a port, the disk) is missing, taken or does not answer."""


class DeployError(PlatformError):
    """A deployment cannot start, did not become healthy, or cannot go back."""


class BackupError(PlatformError):
    """A backup cannot be made, is not whole, or cannot be restored where it should be: nothing was changed."""


class DiskFullError(PlatformError):
    """A file could not be written for lack of space: what was there before stays, what was begun does not count."""


class EvaluationError(EvergreenError):
    """Scores cannot be judged: empty, not finite, or not of the same pairs as those they are compared with."""


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
