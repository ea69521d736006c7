"""Where trials are kept, and the lock of the one process that asks and tells."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen.errors import TrainingError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

STUDIES = "studies.db"  # in a model's folder


def open_storage(url: str, folder: Path) -> BaseStorage:
    """Optuna's tables: SQLite in the model's folder, or what the settings name.

    Raises:
        TrainingError: it cannot be reached, or has no driver here; passwords are not shown.
    """
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    where = url or f"sqlite:///{folder / STUDIES}"
    try:
        return RDBStorage(where)
    except ArgumentError:
        raise TrainingError(
            "settings.training.search.storage_url is no URL, expected one such as of PostgreSQL"
        ) from None
    except (SQLAlchemyError, ImportError) as error:
        shown = make_url(where).render_as_string(hide_password=True)
        raise TrainingError(
            f"the search's storage {shown} cannot be used: {str(error).splitlines()[0]}; it is "
            "settings.training.search.storage_url"
        ) from None


@contextmanager
def alone(folder: Path, model: str) -> Iterator[None]:
    """One search of a model at a time; the kernel lets go of the lock when the process dies.

    Raises:
        TrainingError: another one is at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(f"another search of {model} is at work in {folder}: wait until it ends") from None
        yield
