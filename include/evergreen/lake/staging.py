"""Private folders that an attempt writes to. Nothing in them is visible until one commit publishes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from evergreen.files import write_whole
from evergreen.lake.digest import digest_json, digest_table
from evergreen.lake.table import PARTITION, DayFile, Lake

DIGEST_DIGITS = 32
BASE = "base.json"


@dataclass(frozen=True)
class Staged:
    """What an attempt staged for one table: each day's files and digest, and the digests that they would replace."""

    table: str
    attempt: str
    files: tuple[DayFile, ...]
    base: Mapping[date, str]  # digests of the covered days in the version that the attempt started from
    start: date
    end: date
    transform: str  # version of the transform that made the rows
    inputs: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[date, ...] | None = None  # covered days where they are not all from `start` to `end`

    def covers(self, day: date) -> bool:
        """Whether the attempt says what `day` holds."""
        return self.start <= day <= self.end and (self.only is None or day in self.only)

    @property
    def digests(self) -> dict[date, str]:
        """Content digest of each staged day."""
        return {file.day: file.digest for file in self.files}

    @property
    def changed_days(self) -> list[date]:
        """Covered days whose content differs from the base: new, altered, or gone."""
        new = self.digests
        return sorted(day for day in {*new, *self.base} if new.get(day) != self.base.get(day))

    @property
    def rows(self) -> int:
        """Staged rows."""
        return sum(file.rows for file in self.files)

    @property
    def digest(self) -> str:
        """Digest of all staged days together."""
        return digest_json({str(day): digest for day, digest in self.digests.items()})

    def paths(self, lake: Lake, days: Iterable[date] | None = None) -> list[str]:
        """Absolute paths of the staged files (of `days`, default all), for checks on what is not yet published."""
        wanted = None if days is None else set(days)
        root = lake.table(self.table).root
        return [str(root / file.path) for file in self.files if wanted is None or file.day in wanted]

    def document(self) -> dict[str, Any]:
        """This as a JSON document: days as ISO strings."""
        document = asdict(self)
        document["base"] = {str(day): digest for day, digest in self.base.items()}
        return cast(dict[str, Any], json.loads(json.dumps(document, default=str)))

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> Staged:
        """Reads what `document` gave."""
        rest = dict(document)
        files = tuple(DayFile(**{**entry, "day": date.fromisoformat(entry["day"])}) for entry in rest.pop("files"))
        base = {date.fromisoformat(day): digest for day, digest in rest.pop("base").items()}
        start, end = date.fromisoformat(rest.pop("start")), date.fromisoformat(rest.pop("end"))
        only = rest.pop("only", None)
        days = None if only is None else tuple(date.fromisoformat(day) for day in only)
        return Staged(files=files, base=base, start=start, end=end, only=days, **rest)

    def save(self, file: Path) -> Path:
        """Writes this as JSON, so that another process can check and publish it."""
        write_whole(file, json.dumps(self.document()))
        return file

    @staticmethod
    def load(file: Path | str) -> Staged:
        """Reads what `save` wrote."""
        return Staged.from_document(json.loads(Path(file).read_text()))


def new_attempt() -> str:
    """A name for a private staging folder."""
    return uuid4().hex


def begin(lake: Lake, table: str, attempt: str) -> Path:
    """Makes the private staging folder of an attempt and gives its path: write `event_date=D/*.parquet` into it.

    Call it before the inputs are read: it notes what the table holds now, and publishing replaces nothing else.
    """
    current = lake.table(table)
    folder = current.root / "staging" / attempt
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / BASE
    if not base.exists():
        write_whole(base, json.dumps({str(day): digest for day, digest in current.digests.items()}))
    return folder


def discard(lake: Lake, table: str, attempt: str) -> None:
    """Removes an attempt's staging folder, unless it was published after all: its files are the table's then."""
    current = lake.table(table)
    folder = f"staging/{attempt}"
    if not any(file.path.startswith(f"{folder}/") for file in current.files):
        shutil.rmtree(current.root / folder, ignore_errors=True)


def stage_days(lake: Lake, table: str, attempt: str, days: Iterable[tuple[date, pa.Table]]) -> None:
    """Writes days that are held as Arrow tables (canonical columns; `event_date` may be left out)."""
    folder = begin(lake, table, attempt)
    schema = lake.table(table).spec.file_schema
    for day, rows in days:
        target = folder / f"{PARTITION}={day}"
        target.mkdir(exist_ok=True)
        pq.write_table(rows.select(schema.names).cast(schema), target / "part-0.parquet", compression="zstd")


def seal(
    lake: Lake,
    table: str,
    attempt: str,
    *,
    start: date,
    end: date,
    transform: str,
    inputs: Mapping[str, Any] | None = None,
    mark_empty: bool = False,
    only: Iterable[date] | None = None,
) -> Staged:
    """Reads back what an attempt wrote, digests each day, and names the files by their day's digest.

    Args:
        lake: the lake that was written to.
        table: name of the table.
        attempt: name of the staging folder.
        start: first covered day. A covered day that the table has and the attempt does not is one that will be removed.
        end: last covered day, inclusive.
        transform: version of the transform, recorded with the commit.
        inputs: what the rows were made from (table versions, source digest), recorded with the commit.
        mark_empty: also write a file without rows for each covered day without any, so that the day counts as ingested.
        only: the covered days, where they are not all from `start` to `end`.
    """
    covered = list(days_between(start, end)) if only is None else sorted(only)
    current = lake.table(table)
    folder = begin(lake, table, attempt)
    schema = current.spec.file_schema
    if mark_empty:
        stage_days(
            lake,
            table,
            attempt,
            ((day, schema.empty_table()) for day in covered if not (folder / f"{PARTITION}={day}").exists()),
        )
    files: list[DayFile] = []
    for day_folder in sorted(folder.glob(f"{PARTITION}=*")):
        day = date.fromisoformat(day_folder.name.removeprefix(f"{PARTITION}="))
        parts = sorted(day_folder.glob("*.parquet"))
        tables = [pq.ParquetFile(part).read().select(schema.names).cast(schema) for part in parts]
        if not tables:
            continue
        content = pa.concat_tables(tables).drop_columns(list(current.spec.provenance))
        digest = digest_table(content, current.spec.sort_by)[:DIGEST_DIGITS]
        for index, (part, rows) in enumerate(zip(parts, tables, strict=True)):
            target = day_folder / f"{digest}-{index}.parquet"
            part.rename(target)
            relative = str(target.relative_to(current.root))
            files.append(DayFile(relative, day, digest, rows.num_rows, target.stat().st_size))
    noted = {date.fromisoformat(day): digest for day, digest in json.loads((folder / BASE).read_text()).items()}
    days = set(covered)
    base = {day: digest for day, digest in noted.items() if day in days}
    sparse = None if only is None else tuple(covered)
    return Staged(table, attempt, tuple(files), base, start, end, transform, dict(inputs or {}), sparse)


def days_between(start: date, end: date) -> Iterator[date]:
    """Each day from `start` to `end`, both inclusive."""
    for offset in range((end - start).days + 1):
        yield start + timedelta(days=offset)
