"""What all jobs share: one JSON line last on success, one line of error and exit code 1 otherwise."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evergreen.errors import EvergreenError


def run_job(job: Callable[[], Mapping[str, Any]], result: Path | None = None) -> int:
    """Runs a job, prints its result as the last line of stdout (and writes it to `result`), and gives the exit code.

    Errors that a person can act on become one line on stderr; all others keep their traceback. `result` is
    written whole or not at all.
    """
    try:
        document = json.dumps(job(), sort_keys=True)
    except EvergreenError as error:
        print(f"evergreen: {error}", file=sys.stderr)
        return 1
    if result is not None:
        result.parent.mkdir(parents=True, exist_ok=True)
        unfinished = result.with_name(f".{result.name}.{os.getpid()}")
        unfinished.write_text(document)
        os.replace(unfinished, result)
    print(document, flush=True)
    return 0
