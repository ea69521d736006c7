"""What an image is made of: its digest names the image, so that the same sources are built once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evergreen import __version__
from evergreen.settings.tree import PROJECT

FOLDERS = ("dags", "docker", "feature_repo", "include", "plugins", "requirements")
FILES = ("Dockerfile", ".dockerignore", "evergreen", "pyproject.toml")


def image_tag(torch: str = "none") -> str:
    """Tag of images of these sources: the version, and twelve digits of their digest."""
    hasher = hashlib.sha256(f"torch={torch}\0".encode())
    for file in sorted(_files()):
        hasher.update(f"{file.relative_to(PROJECT).as_posix()}\0".encode())
        hasher.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{__version__}-{hasher.hexdigest()[:12]}"


def _files() -> list[Path]:
    found = [PROJECT / name for name in FILES if (PROJECT / name).is_file()]
    for folder in FOLDERS:
        found += [
            file
            for file in (PROJECT / folder).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts and file.suffix not in (".pyc", ".whl")
        ]
    return found
