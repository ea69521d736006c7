"""What all jobs share: one JSON line last on success, one line of error and exit code 1 otherwise."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from evergreen.errors import EvergreenError, SettingsError
from evergreen.files import write_whole
from evergreen.settings import load_settings
from evergreen.system_errors import disk_full, unusable_path


def run_job(job: Callable[[], Mapping[str, Any]], result: Path | None = None) -> int:
    """Runs a job, prints its result as the last line of stdout (and writes it to `result`), and gives the exit code.

    Errors that a person can act on become one line on stderr; all others keep their traceback. `result` is
    written whole or not at all.
    """
    try:
        document = json.dumps(job(), sort_keys=True)
        if result is not None:
            write_whole(result, document)
    except Exception as error:
        told = told_plainly(error, [result.parent] if result else [])
        if told is None:
            raise
        print(f"evergreen: {told}", file=sys.stderr)
        return 1
    print(document, flush=True)
    return 0


def day_argument(text: str) -> date:
    """The value of an argument that is a day.

    Raises:
        ArgumentTypeError: it is none; argparse says so and ends with code 2.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day, expected YYYY-MM-DD such as 2011-08-31") from None


def told_plainly(error: BaseException, folders: Iterable[Path] = ()) -> EvergreenError | None:
    """The error in one line for a person: our own as it is, a full disk or a forbidden path by name; else None.

    Args:
        error: what was raised.
        folders: where was written to, apart from home and lake.
    """
    if isinstance(error, EvergreenError):
        return error
    try:
        settings = load_settings()
        ours = [settings.home_path, settings.lake_path]
    except (SettingsError, OSError):
        ours = []
    return disk_full(error, [*folders, *ours]) or unusable_path(error)
