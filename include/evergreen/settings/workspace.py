"""Workspaces: purchases of different shops never meet in one lake.

The first source that is run lives in `home` itself. Another source gets a folder of its own below it, with its own
lake, ledger, registry and Airflow; a pointer file says which one commands work on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from evergreen.errors import SettingsError
from evergreen.files import write_whole

POINTER = "workspace"
OWNER = "workspace.owner"
FOLDER = "workspaces"


@dataclass(frozen=True)
class Workspace:
    """A workspace as people see it."""

    name: str  # of its source
    folder: Path
    current: bool  # commands work on it


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
        write_whole(owner, source_name)
    name = "" if owner.read_text() == source_name else re.sub(r"[^A-Za-z0-9_-]+", "-", source_name).strip("-")
    write_whole(home / POINTER, name)
    return current_home(home)


def workspaces(home: Path) -> list[Workspace]:
    """All workspaces, the one in `home` itself first; empty before the first source was run."""
    owner = home / OWNER
    if not owner.is_file():
        return []
    current = current_home(home)
    others = {path for path in (home / FOLDER).glob("*") if path.is_dir()} | ({current} - {home})
    first = Workspace(owner.read_text(), home, current == home)
    return [first, *(Workspace(path.name, path, path == current) for path in sorted(others))]


def use(home: Path, name: str) -> Workspace:
    """Points commands at a workspace that is there.

    Raises:
        SettingsError: there is none of that name.
    """
    known = workspaces(home)
    found = next((workspace for workspace in known if workspace.name == name), None)
    if found is None:
        names = ", ".join(workspace.name for workspace in known) or "none yet: ./evergreen run makes the first"
        raise SettingsError(f"there is no workspace {name!r}, must be one of: {names}")
    write_whole(home / POINTER, "" if found.folder == home else name)
    return Workspace(found.name, found.folder, current=True)
