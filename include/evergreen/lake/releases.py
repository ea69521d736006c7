"""Releases: rows that say which table versions belong together, so that readers pin one consistent state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from evergreen.lake.publish import publish
from evergreen.lake.staging import Staged, begin, discard, new_attempt, seal, stage_days
from evergreen.lake.table import Lake


@dataclass(frozen=True)
class Release:
    """Versions of tables that were published together, and what they were made from."""

    name: str
    day: date
    sequence: int
    digest: str
    versions: Mapping[str, int]
    inputs: Mapping[str, Any]


def releases(lake: Lake, name: str) -> list[Release]:
    """All releases of a name, oldest first."""
    rows = [row for row in lake.table("releases").read().to_pylist() if row["name"] == name]
    rows.sort(key=lambda row: row["sequence"])
    return [
        Release(
            name, row["day"], row["sequence"], row["digest"], json.loads(row["versions"]), json.loads(row["inputs"])
        )
        for row in rows
    ]


def latest_release(lake: Lake, name: str) -> Release | None:
    """The newest release of a name, None before the first."""
    found = releases(lake, name)
    return found[-1] if found else None


def release(
    lake: Lake, name: str, *, day: date, digest: str, versions: Mapping[str, int], inputs: Mapping[str, Any]
) -> Release:
    """Records that these versions belong together. The same digest as the newest release's adds nothing.

    Raises:
        PublishRefusedError: someone else recorded a release at the same moment; ask again.
    """
    attempt = new_attempt()
    wanted = Release(name, day, 1, digest, dict(versions), dict(inputs))
    try:
        made, staged = _stage(lake, attempt, wanted)
        if staged is not None:
            publish(lake, staged)
            return made
    except BaseException:
        discard(lake, "releases", attempt)
        raise
    discard(lake, "releases", attempt)
    return made


def _stage(lake: Lake, attempt: str, wanted: Release) -> tuple[Release, Staged | None]:
    """The release with its place in the sequence, staged; nothing is staged where the newest one says the same."""
    begin(lake, "releases", attempt)  # before the newest is read: a release in between is refused, not overwritten
    newest = latest_release(lake, wanted.name)
    if newest is not None and newest.digest == wanted.digest and newest.versions == wanted.versions:
        return newest, None
    now = datetime.now(UTC)
    today = now.date()
    made = replace(wanted, sequence=(newest.sequence if newest else 0) + 1)
    row = {
        "name": made.name,
        "day": made.day,
        "sequence": made.sequence,
        "digest": made.digest,
        "versions": json.dumps(made.versions, sort_keys=True),
        "inputs": json.dumps(made.inputs, sort_keys=True, default=str),
        "created_at": now,
    }
    table = lake.table("releases")
    rows = pa.concat_tables(
        [
            table.read(today, today).select(table.spec.file_schema.names),
            pa.Table.from_pylist([row], schema=table.spec.file_schema),
        ]
    )
    stage_days(lake, "releases", attempt, [(today, rows)])
    return made, seal(lake, "releases", attempt, start=today, end=today, transform="releases/1")
