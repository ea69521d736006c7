"""What became healthy in an environment, oldest first: what going back needs to know of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from evergreen.files import file_sha256, write_whole


@dataclass(frozen=True)
class Release:
    """Images, configuration, and the snapshot that was taken before they were started."""

    tag: str
    revision: str
    gpus: str
    at: str  # ISO 8601, UTC
    monitoring: bool = False
    settings: Mapping[str, str] | None = None  # what .env said; None: noted before settings were
    compose: str = ""  # SHA-256 of its Compose file
    snapshot: str = ""  # name of the snapshot; empty: there was nothing yet, or none was wanted
    seconds: dict[str, float] = field(default_factory=dict)  # by step

    def is_like(self, other: Release) -> bool:
        """Whether both start the same containers."""
        names = ("tag", "gpus", "monitoring", "settings", "compose")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class History:
    """The releases of one environment, in its folder."""

    folder: Path

    def all(self) -> list[Release]:
        """Oldest first; one that was gone back from is no longer among them."""
        file = self.folder / "releases.json"
        return [_release(one) for one in json.loads(file.read_text())] if file.exists() else []

    def begin(self, release: Release) -> Release:
        """Notes a release that is about to be started, and gives it as it is noted.

        Where the one that was begun before never became healthy, this one has that one's snapshot: the databases as the
        newest healthy release left them.
        """
        unfinished = self.begun()
        if unfinished and unfinished.snapshot:
            release = replace(release, snapshot=unfinished.snapshot)
        write_whole(self._begun, json.dumps(release.document()))
        return release

    def begun(self) -> Release | None:
        """The release that was started last and never became healthy; None where it did."""
        return _release(json.loads(self._begun.read_text())) if self._begun.exists() else None

    def add(self, release: Release) -> None:
        """Notes that a release is healthy. One that was so before stays one, with the snapshot taken before it."""
        before = self.all()
        if before and before[-1].is_like(release):
            release = replace(release, snapshot=before.pop().snapshot)
        self._write([*before, release])
        self._begun.unlink(missing_ok=True)

    def way_back(self) -> tuple[Release | None, Release | None]:
        """What would be left and what would run again; None where there is no such release."""
        releases = [None, None, *self.all()]
        return (self.begun(), releases[-1]) if self.begun() else (releases[-1], releases[-2])

    def go_back(self, release: Release) -> None:
        """Notes that the release which `way_back` gave runs again."""
        self._write([*self.all()[: -1 if self.begun() else -2], release])
        self._begun.unlink(missing_ok=True)

    def needed_snapshots(self) -> set[str]:
        """Snapshots that the next way back may need."""
        return {one.snapshot for one in (*self.all()[-1:], self.begun()) if one and one.snapshot}

    def keep_compose(self, file: Path) -> str:
        """Keeps a Compose file for as long as there is the folder, and gives its digest."""
        digest = file_sha256(file)
        kept = self._compose(digest)
        if not kept.exists():
            write_whole(kept, file.read_text())
        return digest

    def compose_file(self, release: Release) -> Path | None:
        """The Compose file of a release; None where it was not kept."""
        kept = self._compose(release.compose)
        return kept if release.compose and kept.exists() else None

    @property
    def _begun(self) -> Path:
        return self.folder / "begun.json"

    def _compose(self, digest: str) -> Path:
        return self.folder / "compose" / f"{digest}.yaml"

    def _write(self, releases: list[Release]) -> None:
        write_whole(self.folder / "releases.json", json.dumps([one.document() for one in releases], indent=1))


def _release(noted: Mapping[str, Any]) -> Release:
    known = {one.name for one in fields(Release)}
    return Release(**{name: value for name, value in noted.items() if name in known})
