"""Workspaces: purchases of different shops never meet in one lake.

The first source that is run lives in `home` itself. Another source gets a folder of its own below it, with its own
lake, ledger, registry and Airflow; a pointer file says which one commands work on.
"""

from __future__ import annotations

import re
from pathlib import Path

POINTER = "workspace"
OWNER = "workspace.owner"
FOLDER = "workspaces"


def current_home(home: Path) -> Path:
    """The folder of the workspace that commands work on: `home` itself unless its pointer names another."""
    pointer = home / POINTER
    name = pointer.read_text().strip() if pointer.is_file() else ""
    return home / FOLDER / name if name else home


def choose(home: Path, source_name: str) -> Path:
    """Points commands at the workspace of a source and gives its folder.

    Args:
        home: the profile's home, above all workspaces.
        source_name: stable name of the source, `sample` or a file's name; `home` itself goes to the first one.
    """
    home.mkdir(parents=True, exist_ok=True)
    owner = home / OWNER
    if not owner.exists():
        owner.write_text(source_name)
    name = "" if owner.read_text() == source_name else re.sub(r"[^A-Za-z0-9_-]+", "-", source_name).strip("-")
    (home / POINTER).write_text(name)
    return current_home(home)
