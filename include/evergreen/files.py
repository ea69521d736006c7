"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import uuid4


def write_whole(file: Path, text: str) -> None:
    """Writes a file beside its place and renames it: readers see the old content or the new one, never a part.

    Where the disk is full the old content stays, and nothing is left behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        draft.write_text(text)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
