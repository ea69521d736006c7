"""What of a source was loaded last, so that the next load reads new days alone, and all of them after a correction."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from evergreen.files import write_whole
from evergreen.ingest.sources import Source
from evergreen.lake import Lake
from evergreen.lake.staging import days_between
from evergreen.settings import Settings


def first_day_to_load(settings: Settings, source: Source, day: date) -> date:
    """The day from which a load up to `day` must read.

    The first day that the lake lacks, where the source still gives what it gave for the days that were loaded before;
    the source's first day where it does not: days that did not change publish nothing.
    """
    first = source.first_day()
    loaded = _read(_note(settings))
    if loaded is None:
        return first
    start, end, fingerprint = loaded
    if start != first or source.fingerprint(start, end) != fingerprint:
        return first
    have = set(Lake(settings.lake_path).table("transactions").digests)
    return next((missing for missing in days_between(first, day) if missing not in have), day)


def note_loaded(settings: Settings, source: Source, day: date) -> None:
    """Notes that the lake holds what the source gives from its first day up to `day`."""
    file = _note(settings)
    loaded = _read(file)
    start = source.first_day()
    end = max(day, loaded[1]) if loaded and loaded[0] == start else day
    document = {"start": str(start), "end": str(end), "fingerprint": source.fingerprint(start, end)}
    write_whole(file, json.dumps(document))


def _note(settings: Settings) -> Path:
    return settings.home_path / "loaded.json"


def _read(file: Path) -> tuple[date, date, str] | None:
    if not file.exists():
        return None
    noted = json.loads(file.read_text())
    return date.fromisoformat(noted["start"]), date.fromisoformat(noted["end"]), str(noted["fingerprint"])
