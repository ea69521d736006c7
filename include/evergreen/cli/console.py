"""How commands write: text and tables for people, one JSON line for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

console = Console(highlight=False)
progress_console = Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")
    sys.stdout.flush()


def seconds(value: float) -> str:
    """A duration as people say it: `42 s`, `3 min 05 s`."""
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
