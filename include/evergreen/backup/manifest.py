"""What a backup says of itself: every file with its size and SHA-256, the ledger's head, champion and releases.

The manifest is written last: a folder without it is no backup.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evergreen.errors import BackupError
from evergreen.files import write_whole
from evergreen.lake.digest import canonical_json, digest_json

MANIFEST = "manifest.json"
FORMAT = "evergreen.backup/1"
HOME, LEDGER = "home", "ledger"
"""Folders of a backup: files as they lie in a home, and the rows of the ledger's tables."""
_PIECE = 1 << 20


@dataclass(frozen=True)
class StoredFile:
    """A file of a backup."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds."""

    workspace: str
    home: str  # where it was made, absolute
    profile: str
    created_at: str
    evergreen: str  # version of the product
    code_digest: str
    settings_digest: str
    lake: str  # `settings.lake.location`
    ledger: Mapping[str, Any]  # entries, head
    champion: Mapping[str, Any] | None
    releases: Mapping[str, Mapping[str, Any]]  # newest of each name: day, sequence, digest, versions
    tables: Mapping[str, int]  # newest version of each table
    left_out: tuple[Mapping[str, str], ...]  # what, why
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    format: str = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical document: the backup's name in the ledger."""
        return digest_json(asdict(self))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Makes a folder of files a backup, in one step."""
    write_whole(folder / MANIFEST, canonical_json({"digest": manifest.digest, "manifest": asdict(manifest)}) + "\n")
    with (folder / MANIFEST).open("rb") as file:
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        BackupError: there is none, it was altered, or other code wrote it.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise BackupError(f"{folder} has no {MANIFEST}: it is no backup, or one that was not finished. Name another")
    try:
        document = json.loads(file.read_text())
        content, stated = dict(document["manifest"]), str(document["digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(f"{file} cannot be read: {error!r}. Use another backup") from None
    if content.get("format") != FORMAT:
        raise BackupError(f"{file} has format {content.get('format')!r}, this code reads {FORMAT!r}: use its version")
    if digest_json(content) != stated:
        raise BackupError(f"{file} was altered: its digest is not {stated[:12]}. Use another backup")
    files = {name: StoredFile(**one) for name, one in content.pop("files").items()}
    left_out = tuple(content.pop("left_out"))
    return Manifest(**content, left_out=left_out, files=files)


def is_whole(folder: Path) -> bool:
    """Whether every file is there in its size: quick, contents are not read."""
    try:
        files = read_manifest(folder).files
        return all((folder / name).stat().st_size == file.size for name, file in files.items())
    except (BackupError, OSError):
        return False


def digest_of(path: Path) -> StoredFile:
    """Size and SHA-256 of a file."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return StoredFile(stream.tell(), sha256)


def copy_file(source: Path, target: Path, *, durable: bool = False) -> StoredFile:
    """Copies a file with its mode, and gives the digest of what was copied.

    Args:
        source: what is copied.
        target: where to; folders are made.
        durable: wait until it is on the disk, as a backup must be and a restore, which can be done again, need not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(_PIECE):
            digest.update(piece)
            writer.write(piece)
            size += len(piece)
        os.fchmod(writer.fileno(), os.fstat(reader.fileno()).st_mode & 0o777)
        if durable:
            writer.flush()
            os.fdatasync(writer.fileno())
    return StoredFile(size, digest.hexdigest())
