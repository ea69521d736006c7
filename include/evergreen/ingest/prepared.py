"""A source file read once: its lines as text, split by month, so that a day of a large file is found in a moment."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evergreen.errors import SourceError
from evergreen.files import write_whole
from evergreen.ingest.layout import Layout, TimeFormat, map_columns, text, time_sql
from evergreen.ingest.lines import CHUNK_ROWS, DAY, ROW, SOURCE, RawTable, engine, raw_schema
from evergreen.ingest.readers import content_sha256, open_table
from evergreen.ingest.survey import Survey, survey_of
from evergreen.lake.digest import digest_json
from evergreen.settings.ingest import IngestSettings

VERSION = 1  # of the prepared form: raise it when days or columns are written another way
INDEX = "index.json"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Prepared:
    """An open prepared copy."""

    folder: Path
    name: str
    fingerprint: str
    layout: Layout
    days: dict[date, int]  # lines of each day that has any

    def chunks(self, start: date, end: date) -> Iterator[tuple[pa.Table, list[date]]]:
        """Lines of the days `start` to `end`, whole days at a time, with the days of each chunk."""
        group: list[date] = []
        for day in (day for day in sorted(self.days) if start <= day <= end):
            if group and sum(self.days[other] for other in group) + self.days[day] > CHUNK_ROWS:
                yield self._read(group), group
                group = []
            group.append(day)
        if group:
            yield self._read(group), group

    def _read(self, days: list[date]) -> pa.Table:
        first, last = days[0], days[-1]
        months = dict.fromkeys(_month(day) for day in days)
        parts = [
            pq.read_table(
                self.folder / f"{month}.parquet", filters=[(DAY, ">=", first), (DAY, "<=", last)], partitioning=None
            )
            for month in months
        ]
        lines = pa.concat_tables(parts)
        expected = sum(self.days[day] for day in days)
        if lines.num_rows != expected:
            raise SourceError(
                f"{self.name}: its prepared copy holds {lines.num_rows:,} lines of {first} to {last}, its index says "
                f"{expected:,}. Remove {self.folder} and run again"
            )
        return lines.append_column(SOURCE, pa.array([self.name] * lines.num_rows, pa.string()))


def prepare(path: Path, settings: IngestSettings, home: Path, *, latest: date | None = None) -> Prepared:
    """The prepared copy of a file: found, or made in bounded memory and put in place by one rename.

    A line without a readable time (or dated in the future, or before `earliest_day`) belongs to the day of the nearest
    readable line before it, else of the first readable one: a property of the file, whatever range is loaded later.

    Args:
        path: .csv, .csv.gz, .parquet or .xlsx.
        settings: column mapping and time format.
        home: copies live in `home/sources`.
        latest: later lines are dated in the future; None for tomorrow (UTC) as of the first reading.

    Raises:
        SourceError: the file cannot be read, has no lines, or does not meet the contract.
    """
    folder = home / "sources"
    key = digest_json(
        {
            "content": _content(path, folder),
            "name": path.name,
            "columns": settings.columns,
            "time_format": settings.time_format,
            "earliest": str(settings.earliest_day),
            "latest": str(latest),
            "version": VERSION,
        }
    )[:32]
    if not (folder / key / INDEX).exists():
        _make(path, settings, folder, key, latest)
        _forget_former(path, folder, key)
    index = json.loads((folder / key / INDEX).read_text())
    layout = Layout(
        index["layout"]["mapping"],
        tuple(index["layout"]["extras"]),
        TimeFormat(index["layout"]["time_format"]),
        tuple(index["layout"]["columns"]),
    )
    days = {date.fromisoformat(day): rows for day, rows in index["days"].items()}
    return Prepared(folder / key, path.name, key, layout, days)


def _content(path: Path, folder: Path) -> str:
    """SHA-256 of a file, remembered by its path, size and time of change."""
    if not path.is_file():
        raise SourceError(f"source {path} does not exist; give a file, a landing folder or a database URL")
    seen = path.stat()
    state = {"path": str(path), "size": seen.st_size, "mtime_ns": seen.st_mtime_ns}
    memo = _memo(path, folder)
    known = json.loads(memo.read_text()) if memo.exists() else {}
    if {name: known.get(name) for name in state} == state:
        return str(known["sha256"])
    sha256 = content_sha256(path)
    write_whole(memo, json.dumps(known | state | {"sha256": sha256}))
    return sha256


def _forget_former(path: Path, folder: Path, key: str) -> None:
    """Removes the copy of what the file held before, and what killed attempts left behind."""
    memo = _memo(path, folder)
    known: dict[str, Any] = json.loads(memo.read_text())
    former = known.get("key")
    write_whole(memo, json.dumps(known | {"key": key}))
    if former and former != key:
        shutil.rmtree(folder / former, ignore_errors=True)
    for unfinished in folder.glob(".unfinished-*"):
        if time.time() - unfinished.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(unfinished, ignore_errors=True)


def _memo(path: Path, folder: Path) -> Path:
    return folder / "files" / f"{digest_json(str(path))[:32]}.json"


def _make(path: Path, settings: IngestSettings, folder: Path, key: str, latest: date | None) -> None:
    unfinished = folder / f".unfinished-{uuid4().hex}"
    unfinished.mkdir(parents=True)
    try:
        raw = open_table(path)
        layout = map_columns(raw.name, raw.columns, settings.columns)
        survey = survey_of(raw.name, layout, settings, declared=None, latest=latest)
        with engine() as connection:
            copy = unfinished / "lines.arrow"
            _survey(raw, survey, copy, connection)
            layout = survey.decide(settings.time_format)
            first = survey.first_day(layout.time_format)
            if first is None:
                raise SourceError(
                    f"{raw.name}: no line of its {survey.rows:,} has a time between {survey.earliest} and "
                    f"{survey.latest} in column {layout.mapping['event_time']}. Check the column mapping in "
                    "settings.ingest.columns and settings.ingest.time_format"
                )
            days = _split(copy, unfinished, survey, layout, first, connection)
            copy.unlink()
        index = {
            "name": raw.name,
            "layout": asdict(layout),
            "days": {str(day): rows for day, rows in sorted(days.items())},
        }
        (unfinished / INDEX).write_text(json.dumps(index))
        try:
            unfinished.rename(folder / key)
        except OSError:  # another process made the same copy meanwhile
            if not (folder / key / INDEX).exists():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _survey(raw: RawTable, survey: Survey, copy: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Keeps the lines in a form that is quick to read again: only all of them together tell how times are written."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(copy), "wb") as sink, pa.ipc.new_file(sink, raw_schema(raw.columns), options=options) as writer:
        for batch in raw.batches:
            survey.look(batch, connection)
            writer.write_batch(batch)
    if not survey.rows:
        raise SourceError(f"{raw.name} has a header and no lines; expected purchase lines. Get the file again")


def _split(
    copy: Path,
    folder: Path,
    survey: Survey,
    layout: Layout,
    first: date,
    connection: duckdb.DuckDBPyConnection,
) -> dict[date, int]:
    """Writes one file a month, lines in source order, and gives the number of lines of each day."""
    schema = raw_schema(layout.columns).append(pa.field(DAY, pa.date32()))
    writers: dict[str, pq.ParquetWriter] = {}
    counts: dict[date, int] = {}
    current = first
    with pa.memory_map(str(copy)) as source, pa.ipc.open_file(source) as reader:
        try:
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                days, current = _days_of(batch, layout, survey, current, connection)
                lines = pa.Table.from_batches([batch]).append_column(DAY, days).cast(schema)
                for entry in days.value_counts().to_pylist():
                    counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
                for month in dict.fromkeys(_month(day) for day in days.unique().to_pylist()):
                    if month not in writers:
                        writers[month] = pq.ParquetWriter(folder / f"{month}.parquet", schema, compression="zstd")
                    writers[month].write_table(lines.filter(_in_month(days, month)))
        finally:
            for writer in writers.values():
                writer.close()
    return counts


def _days_of(
    batch: pa.RecordBatch, layout: Layout, survey: Survey, before: date, connection: duckdb.DuckDBPyConnection
) -> tuple[pa.Array, date]:
    """The day of each line: its own, else that of the nearest readable line before it; and the last of them."""
    connection.register("batch", batch)
    day = f"CAST({time_sql(text(layout.mapping['event_time']), layout.time_format)} AS DATE)"
    known = connection.sql(
        f"""SELECT CASE WHEN d BETWEEN DATE '{survey.earliest}' AND DATE '{survey.latest}' THEN d END AS d
            FROM (SELECT "{ROW}", {day} AS d FROM batch) ORDER BY "{ROW}" """
    ).to_arrow_table()["d"]
    connection.unregister("batch")
    numbers = np.concatenate([[(before - date(1970, 1, 1)).days], known.cast(pa.int32()).fill_null(-1).to_numpy()])
    valid = np.concatenate([[True], known.is_valid().to_numpy()])
    nearest = np.maximum.accumulate(np.where(valid, np.arange(len(numbers)), 0))
    filled = numbers[nearest][1:].astype(np.int32)
    days = pa.array(filled).cast(pa.date32())
    return days, date(1970, 1, 1) + timedelta(days=int(filled[-1]))


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def _in_month(days: pa.Array, month: str) -> pa.Array:
    first = date.fromisoformat(f"{month}-01")
    following = (first + timedelta(days=31)).replace(day=1)
    return pc.and_(pc.greater_equal(days, pa.scalar(first)), pc.less(days, pa.scalar(following)))
