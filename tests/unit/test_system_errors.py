"""What the system says becomes one line that names the place and what to do."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from evergreen.errors import DiskFullError, PlatformError
from evergreen.system_errors import disk_full, unusable_path


def wrapped(cause: BaseException, *, named: bool) -> BaseException:
    """An error that a library raised because of another one."""
    try:
        try:
            raise cause
        except BaseException as error:
            if named:
                raise RuntimeError("it did not work") from error
            raise RuntimeError("it did not work")  # noqa: B904 - libraries do so
    except RuntimeError as error:
        return error


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    OSError("Generic LocalFileSystem error\n  No space left on device (os error 28)"),
    sqlite3.OperationalError("database or disk is full"),
    RuntimeError("java.io.IOException: No space left on device"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
@pytest.mark.parametrize("depth", ["itself", "cause", "context"])
def test_a_full_disk_is_named_however_it_was_told(tmp_path: Path, error: BaseException, depth: str) -> None:
    seen = error if depth == "itself" else wrapped(error, named=depth == "cause")
    told = disk_full(seen, [tmp_path / "not" / "yet" / "made"])
    assert isinstance(told, DiskFullError)
    assert str(told).startswith(f"the disk of {tmp_path} is full (")
    assert "Free space there" in str(told)
    assert "\n" not in str(told)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("no"), KeyError("disk")])
def test_other_errors_are_no_full_disk(tmp_path: Path, error: Exception) -> None:
    assert disk_full(error, [tmp_path]) is None


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "/a/lake"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/lake"),
        OSError(errno.EROFS, "Read-only file system", "/a/lake"),
    ],
)
def test_a_path_that_cannot_be_used_is_named(error: OSError) -> None:
    told = unusable_path(error)
    assert isinstance(told, PlatformError)
    assert f"/a/lake ({error.strerror}) cannot be used: expected a path" in str(told)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file"), ValueError("no")])
def test_a_file_that_is_missing_is_a_fault_of_ours_until_somebody_says_otherwise(error: Exception) -> None:
    assert unusable_path(error) is None
