"""Where trials are kept, and the lock of the one process that asks and tells."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from evergreen.errors import TrainingError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

STUDIES = "studies.db"  # in a model's folder
POSTGRESQL = "postgresql+psycopg2"
TRIES, TRY_SECONDS = 5, 0.5


def open_storage(url: str, folder: Path) -> BaseStorage:
    """Optuna's tables: SQLite in the model's folder, or what the settings name.

    Raises:
        TrainingError: it cannot be reached, or has no driver here; passwords are not shown.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    where = url or f"sqlite:///{folder / STUDIES}"
    try:
        return _opened(_with_our_driver(where))
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


def _opened(url: str) -> BaseStorage:
    """The tables of a URL. Two searches that begin in an empty database make them at once: one finds the other's."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for left in reversed(range(TRIES)):
        try:
            return RDBStorage(url)
        except (IntegrityError, ProgrammingError):
            if not left:
                raise
            sleep(TRY_SECONDS)
    raise AssertionError  # the last try returned or raised


def _with_our_driver(url: str) -> str:
    """The URL, with the driver that is installed where it names none: SQLAlchemy's own choice is another one."""
    from sqlalchemy.engine import make_url

    made = make_url(url)
    if made.drivername != "postgresql":
        return url
    return made.set(drivername=POSTGRESQL).render_as_string(hide_password=False)


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
