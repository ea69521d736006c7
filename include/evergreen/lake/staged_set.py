"""Several tables that one job staged together: checked together, published together, released as one state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from evergreen.errors import LakeError, PublishRefusedError
from evergreen.files import write_whole
from evergreen.lake.digest import digest_json
from evergreen.lake.publish import publish
from evergreen.lake.releases import Release, latest_release, release
from evergreen.lake.staging import Staged, discard
from evergreen.lake.table import Lake

ATTEMPTS = 20


@dataclass(frozen=True)
class StagedSet:
    """What a job staged for the days `start` to `end`, one part a table, in the order in which they are published."""

    name: str  # of the release: `transactions`, `features`, `predictions`
    day: date  # the day that the job ran for
    start: date
    end: date
    parts: tuple[Staged, ...]
    inputs: Mapping[str, Any] = field(default_factory=dict)  # what the release is made from; JSON, no run ids
    counts: Mapping[str, int] = field(default_factory=dict)  # what the job counted

    @property
    def attempt(self) -> str:
        """Name of the attempt: that of the first part."""
        return self.parts[0].attempt

    @property
    def digest(self) -> str:
        """Digest of the staged content and of what it was made from."""
        return digest_json({"parts": {part.table: part.digest for part in self.parts}, "inputs": dict(self.inputs)})

    @property
    def rows(self) -> int:
        """Staged rows of all tables."""
        return sum(part.rows for part in self.parts)

    @property
    def changed_days(self) -> list[date]:
        """Days on which some table differs from what it held when the attempt began."""
        return sorted({day for part in self.parts for day in part.changed_days})

    def part(self, table: str) -> Staged:
        """The part of one table.

        Raises:
            LakeError: nothing was staged for it.
        """
        for part in self.parts:
            if part.table == table:
                return part
        raise LakeError(f"{self.name}: nothing was staged for {table!r}, only for {[p.table for p in self.parts]}")

    def save(self, lake: Lake) -> dict[str, Any]:
        """Writes `<lake>/staging/<attempt>.json`, from which another process can check and publish; gives a summary.

        The summary is small enough for an XCom: `manifest` (the file's path), `name`, `day`, `start`, `end`, `digest`,
        `rows`, `changed_days` (how many) and `counts`.
        """
        file = lake.root / "staging" / f"{self.attempt}.json"
        document = {
            "name": self.name,
            "day": self.day,
            "start": self.start,
            "end": self.end,
            "parts": [part.document() for part in self.parts],
            "inputs": dict(self.inputs),
            "counts": dict(self.counts),
        }
        try:
            write_whole(file, json.dumps(document, default=str))
        except BaseException:  # nobody can publish what has no manifest
            for part in self.parts:
                discard(lake, part.table, part.attempt)
            raise
        return {
            "manifest": str(file),
            "name": self.name,
            "day": str(self.day),
            "start": str(self.start),
            "end": str(self.end),
            "digest": self.digest,
            "rows": self.rows,
            "changed_days": len(self.changed_days),
            "counts": dict(self.counts),
        }

    @staticmethod
    def load(manifest: Path | str) -> StagedSet:
        """Reads what `save` wrote.

        Raises:
            LakeError: there is no such file.
        """
        file = Path(manifest)
        if not file.exists():
            raise LakeError(f"no staged set at {file}; run the staging task again")
        document = json.loads(file.read_text())
        return StagedSet(
            name=document["name"],
            day=date.fromisoformat(document["day"]),
            start=date.fromisoformat(document["start"]),
            end=date.fromisoformat(document["end"]),
            parts=tuple(Staged.from_document(part) for part in document["parts"]),
            inputs=document["inputs"],
            counts=document["counts"],
        )


def publish_set(lake: Lake, staged: StagedSet, *, run_id: str = "") -> dict[str, Any]:
    """Publishes every part by one commit a table, then releases the tables' newest versions together.

    Readers pin releases, so a crash between two tables shows nothing; publishing again completes it. What changed is
    told from release to release: days that a crashed attempt committed are reported by the attempt that
    releases them.

    Returns:
        JSON: `name`, `day`, `digest` (of the released content and its inputs), `versions`, `changed_days` (how many),
        `rows` (of days that this call committed), `earliest_changed` (ISO day or None), `unchanged`, `release` (its
        sequence number).

    Raises:
        PublishRefusedError: another writer published one of the days first, with other content.
    """
    published = [publish(lake, part, run_id=run_id) for part in staged.parts]
    changed = {day for part in published for day in part.changed_days}
    made, since_last = _release(lake, staged)
    changed |= since_last
    return {
        "name": staged.name,
        "day": str(staged.day),
        "digest": made.digest,
        "versions": dict(sorted(made.versions.items())),
        "changed_days": len(changed),
        "rows": sum(part.rows for part in published),
        "earliest_changed": str(min(changed)) if changed else None,
        "unchanged": not changed,
        "release": made.sequence,
    }


def _release(lake: Lake, staged: StagedSet) -> tuple[Release, set[date]]:
    """Releases the newest versions, unless the newest release has them; also gives the days that changed since that."""
    for _ in range(ATTEMPTS):
        newest = latest_release(lake, staged.name)
        tables = [lake.table(part.table) for part in staged.parts]
        versions = {table.spec.name: table.version for table in tables if table.version is not None}
        inputs = json.loads(json.dumps(dict(staged.inputs), default=str))
        if newest is not None and dict(newest.versions) == versions and dict(newest.inputs) == inputs:
            return newest, set()
        content = {table.spec.name: {str(day): digest for day, digest in table.digests.items()} for table in tables}
        try:
            made = release(
                lake,
                staged.name,
                day=max(staged.end, newest.day) if newest else staged.end,
                digest=digest_json({"tables": content, "inputs": inputs}),
                versions=versions,
                inputs=inputs,
            )
        except PublishRefusedError:
            continue  # someone released in between: what they released may hold ours too
        return made, _changed_since(lake, newest, versions)
    raise PublishRefusedError(f"{staged.name}: {ATTEMPTS} releases by others came in between. Run the task again.")


def _changed_since(lake: Lake, newest: Release | None, versions: Mapping[str, int]) -> set[date]:
    changed: set[date] = set()
    for name, version in versions.items():
        before = newest.versions.get(name) if newest else None
        old = lake.table(name, before).digests if before is not None else {}
        new = lake.table(name, version).digests
        changed |= {day for day in {*old, *new} if old.get(day) != new.get(day)}
    return changed
