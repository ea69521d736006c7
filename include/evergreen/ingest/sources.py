"""Where purchase lines come from: one file, a landing folder of daily drops, a database, or the generated sample."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from evergreen.errors import SourceError, SourceNotReadyError
from evergreen.ingest.layout import Chunk, Layout, map_columns
from evergreen.ingest.lines import CHUNK_ROWS, DAY, SOURCE, engine, raw_schema
from evergreen.ingest.prepared import Prepared, prepare
from evergreen.ingest.readers import content_sha256, open_table
from evergreen.ingest.survey import survey_of
from evergreen.lake.digest import digest_json
from evergreen.settings import Settings

REMEMBERED = "source.json"
SAMPLE = "sample"


class Source(Protocol):
    """A source of purchase lines, asked for ranges of days."""

    @property
    def name(self) -> str:
        """What people call it; no secrets."""
        ...

    def first_day(self) -> date:
        """The first day that it can give.

        Raises:
            SourceNotReadyError: it holds nothing yet.
        """
        ...

    def last_day(self) -> date:
        """The last day that it can give.

        Raises:
            SourceNotReadyError: it holds nothing yet.
        """
        ...

    def ready(self, day: date) -> bool:
        """Whether the day can be loaded: it is not later than the last day. A day without lines is a day."""
        ...

    def fingerprint(self, start: date, end: date) -> str:
        """Digest of what the days of `start` to `end` are made from; changes when a drop or the file does."""
        ...

    def chunks(self, start: date, end: date) -> Iterator[Chunk]:
        """Lines of the days `start` to `end`, both inclusive, in order, whole days at a time."""
        ...


class FileSource:
    """One file that holds all days."""

    def __init__(self, path: Path, settings: Settings, *, latest: date | None = None) -> None:
        self._path = path
        self._settings = settings
        self._latest = latest

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.name

    @cached_property
    def _prepared(self) -> Prepared:
        return prepare(self._path, self._settings.ingest, self._settings.home_path, latest=self._latest)

    def first_day(self) -> date:
        """Day of its earliest line."""
        return min(self._prepared.days)

    def last_day(self) -> date:
        """Day of its latest line, or the day that it is declared to reach."""
        return self._latest or max(self._prepared.days)

    def ready(self, day: date) -> bool:
        """Whether the file reaches that day."""
        return day <= self.last_day()

    def fingerprint(self, start: date, end: date) -> str:
        """Digest of the file's content and of the column mapping."""
        return self._prepared.fingerprint

    def chunks(self, start: date, end: date) -> Iterator[Chunk]:
        """Lines of the days, from the prepared copy."""
        for lines, _ in self._prepared.chunks(start, end):
            yield Chunk(lines, self._prepared.layout)


class SampleSource(FileSource):
    """The generated sample."""

    @property
    def name(self) -> str:
        """Always `sample`."""
        return SAMPLE


class LandingSource:
    """A folder that a drop lands in every day: `2011-08-31.csv` (.csv.gz, .parquet), or `event_date=2011-08-31/`.

    A drop is complete once it has its name: upload under another name, then rename. Where a day has several drops,
    the one that landed last counts. A day without a drop, before the last one, is a day without lines.
    """

    _FILE = re.compile(r"(?:event_date=)?(\d{4}-\d{2}-\d{2})(\.csv|\.csv\.gz|\.parquet)?")

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings.ingest

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._folder.name

    @cached_property
    def _drops(self) -> dict[date, Path]:
        landed: dict[date, tuple[int, str, Path]] = {}
        for entry in self._folder.iterdir():
            match = self._FILE.fullmatch(entry.name)
            if not match or (match[2] is None) != entry.is_dir():
                continue
            day = _day_of(entry, match[1])
            try:
                drop = (entry.stat().st_mtime_ns, entry.name, entry)
            except OSError as error:
                raise SourceError(f"{entry} cannot be read ({error.strerror}); must be a file. Land it again") from None
            landed[day] = max(landed.get(day, drop), drop)
        return {day: landed[day][2] for day in sorted(landed)}

    def first_day(self) -> date:
        """Day of the first drop."""
        return min(self._landed())

    def last_day(self) -> date:
        """Day of the last drop."""
        return max(self._landed())

    def _landed(self) -> dict[date, Path]:
        if not self._drops:
            raise SourceNotReadyError(
                f"{self._folder} holds no drops; expected files such as 2011-08-31.csv. Wait for the first one"
            )
        return self._drops

    def ready(self, day: date) -> bool:
        """Whether the drop of the day, or of a later one, has landed."""
        return bool(self._drops) and day <= self.last_day()

    def fingerprint(self, start: date, end: date) -> str:
        """Digest of the drops' contents."""
        return digest_json(
            {
                str(day): {str(file.relative_to(self._folder)): content_sha256(file) for file in self._files(day)}
                for day in self._days(start, end)
            }
        )[:32]

    def chunks(self, start: date, end: date) -> Iterator[Chunk]:
        """Lines of the days; drops that are written the same way are read together."""
        parts: list[pa.Table] = []
        layout: Layout | None = None
        rows = 0
        for day in self._days(start, end):
            lines, its_layout = self._read(day)
            if layout is not None and (its_layout != layout or rows + lines.num_rows > CHUNK_ROWS):
                yield Chunk(pa.concat_tables(parts), layout)
                parts, rows = [], 0
            parts.append(lines)
            layout = its_layout
            rows += lines.num_rows
        if layout is not None:
            yield Chunk(pa.concat_tables(parts), layout)

    def _days(self, start: date, end: date) -> list[date]:
        return [day for day in self._drops if start <= day <= end]

    def _files(self, day: date) -> list[Path]:
        drop = self._drops[day]
        if not drop.is_dir():
            return [drop]
        files = sorted(file for file in drop.iterdir() if file.name.endswith((".csv", ".csv.gz", ".parquet")))
        if not files:
            raise SourceError(f"{drop} holds no .csv, .csv.gz or .parquet file. Land the drop again")
        return files

    def _read(self, day: date) -> tuple[pa.Table, Layout]:
        parts: list[pa.Table] = []
        columns: tuple[str, ...] = ()
        for file in self._files(day):
            raw = open_table(file)
            if parts and raw.columns != columns:
                raise SourceError(
                    f"{file}: columns {', '.join(raw.columns)} differ from {', '.join(columns)} of its other files. "
                    "Expected one header a drop; land it again"
                )
            columns = raw.columns
            name = file.name if file.parent == self._folder else f"{file.parent.name}/{file.name}"
            table = pa.Table.from_batches(raw.batches, raw_schema(columns))
            parts.append(table.append_column(SOURCE, pa.array([name] * table.num_rows, pa.string())))
        lines = pa.concat_tables(parts)
        label = self._drops[day].name
        survey = survey_of(
            label, map_columns(label, columns, self._settings.columns), self._settings, declared=day, latest=None
        )
        with engine() as connection:
            survey.look(lines, connection)
        layout = survey.decide(self._settings.time_format)
        return lines.append_column(DAY, pa.array([day] * lines.num_rows, pa.date32())), layout


def _day_of(drop: Path, text: str) -> date:
    """The day that a drop's name says; one that is still to come would make every day before it look landed."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise SourceError(f"{drop} names no day; expected YYYY-MM-DD. Rename it") from None
    latest = datetime.now(UTC).date() + timedelta(days=1)
    if day > latest:
        raise SourceError(f"{drop} is of a day in the future; expected one up to {latest}. Rename it, or take it away")
    return day


def resolve_source(settings: Settings, source: str = "") -> Source:
    """The source to load from: the one named, else that of the settings, else the remembered one, else the sample.

    The sample is generated on first use.

    Raises:
        SourceError: it does not exist, or is of no known kind.
    """
    chosen = source or settings.ingest.source or remembered_source(settings)
    if not chosen:
        return _sample(settings)
    if "://" in chosen:
        from evergreen.ingest.database import DatabaseSource

        return DatabaseSource(chosen, settings)
    path = Path(chosen).expanduser().absolute()
    if path.is_dir():
        return LandingSource(path, settings)
    if not path.exists():
        raise SourceError(f"source {chosen} does not exist; give a file, a landing folder or a database URL")
    return FileSource(path, settings)


def remember_source(settings: Settings, source: str) -> Source:
    """Makes a source the default of later runs; an empty one goes back to the sample. Gives the source.

    Raises:
        SourceError: it does not exist, or is of no known kind: nothing is remembered.
    """
    found = resolve_source(settings, source) if source else _sample(settings)
    file = settings.home_path / REMEMBERED
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    absolute = source if not source or "://" in source else str(Path(source).expanduser().absolute())
    unfinished.touch(mode=0o600)  # a database URL may hold a password
    unfinished.write_text(json.dumps({"source": absolute}))
    os.replace(unfinished, file)
    return found


def remembered_source(settings: Settings) -> str:
    """The source that `remember_source` noted, empty where there is none."""
    file = settings.home_path / REMEMBERED
    return str(json.loads(file.read_text())["source"]) if file.exists() else ""


def workspace_name(source: str) -> str:
    """A stable name for what a source is: `sample`, or the file's name with a digest of where it stands."""
    if not source:
        return SAMPLE
    if "://" in source:
        return f"database-{digest_json(source)[:8]}"
    path = Path(source).expanduser().absolute()
    return f"{path.name.split('.')[0]}-{digest_json(str(path))[:8]}"


def _sample(settings: Settings) -> Source:
    from evergreen.ingest.sample import last_day, sample_file

    return SampleSource(sample_file(settings), settings, latest=last_day(settings.sample))
