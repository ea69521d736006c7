"""A table or query of a database, filtered by day where the data are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evergreen.errors import SourceError, SourceNotReadyError
from evergreen.ingest.layout import Chunk, Layout, map_columns, text, time_sql
from evergreen.ingest.lines import DAY, MALFORMED, ROW, SOURCE, engine, literal, quoted, raw_schema
from evergreen.lake.digest import digest_json, digest_table
from evergreen.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

WINDOW_DAYS = 7  # read by one query
FETCH_ROWS = 50_000
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?")


class DatabaseSource:
    """`settings.ingest.table` at a SQLAlchemy URL. Its time column holds timestamps, or ISO texts.

    A table has no order: its lines are numbered within their day, ordered by their values. Lines without a time, or
    with one that lies outside `earliest_day` and tomorrow, belong to the first day.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self._settings = settings.ingest
        self._url = url
        self._digests: dict[tuple[date, date], str] = {}
        if not settings.ingest.table:
            raise SourceError(
                "a database needs settings.ingest.table, which is empty; expected a table's name or a SELECT. "
                "Set EVERGREEN__INGEST__TABLE"
            )

    @property
    def name(self) -> str:
        """The table's name, `query` for a SELECT."""
        return "query" if self._is_query else self._settings.table

    @property
    def _is_query(self) -> bool:
        return re.match(r"\s*(select|with)\b", self._settings.table, re.IGNORECASE) is not None

    @cached_property
    def _engine(self) -> sa.Engine:
        import sqlalchemy as sa

        try:
            made = sa.create_engine(self._url)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
            raise SourceError(
                f"database URL cannot be used ({_first_line(error)}); expected dialect://... of an installed driver. "
                "Mend the URL, or install the driver"
            ) from None
        file = made.url.database or ""
        # SQLite would make an empty database of that name.
        if made.dialect.name == "sqlite" and not file.startswith(("file:", ":memory:")) and not Path(file).is_file():
            raise SourceError(
                f"source {made.url.render_as_string()} does not exist: there is no file {file!r}. Mend it"
            )
        return made

    @cached_property
    def _all(self) -> sa.Select[Any]:
        """Every line with every column."""
        import sqlalchemy as sa

        if self._is_query:
            lines: Any = sa.text(f"({self._settings.table.rstrip('; ')}) AS lines")
        else:
            *schema, table = self._settings.table.split(".")
            lines = sa.table(table, schema=".".join(schema) or None)
        return sa.select(sa.text("*")).select_from(lines)

    @cached_property
    def _layout(self) -> Layout:
        import sqlalchemy as sa

        with self._connected() as connection:
            columns = tuple(connection.execute(self._all.where(sa.false())).keys())
        return map_columns(self.name, columns, self._settings.columns)

    @cached_property
    def _time(self) -> sa.ColumnElement[Any]:
        import sqlalchemy as sa

        return sa.column(str(self._layout.mapping["event_time"]))

    @cached_property
    def _times_are_text(self) -> bool:
        import sqlalchemy as sa

        query = self._all.with_only_columns(self._time).where(self._time.is_not(sa.null())).limit(1)
        with self._connected() as connection:
            value = connection.execute(query).scalar()
        if value is None:
            raise SourceNotReadyError(f"{self.name} holds no line with a time. Wait for its lines")
        if isinstance(value, str) and not _ISO_DAY.fullmatch(value):
            raise SourceError(
                f"{self.name}: column {self._time.key} holds {value!r}; expected timestamps, or texts such as "
                "2011-08-31 17:05:00. Convert them in a SELECT (settings.ingest.table)"
            )
        return isinstance(value, str)

    @cached_property
    def _span(self) -> tuple[date, date]:
        import sqlalchemy as sa

        query = self._all.with_only_columns(sa.func.min(self._time), sa.func.max(self._time)).where(self._inside)
        with self._connected() as connection:
            first, last = connection.execute(query).one()
        if first is None:
            raise SourceNotReadyError(f"{self.name} holds no line up to today. Wait for its lines")
        return date.fromisoformat(str(first)[:10]), date.fromisoformat(str(last)[:10])

    def first_day(self) -> date:
        """Day of the earliest line."""
        return self._span[0]

    def last_day(self) -> date:
        """Day of the latest line that is not in the future."""
        return self._span[1]

    def ready(self, day: date) -> bool:
        """Whether the table reaches that day."""
        try:
            return day <= self.last_day()
        except SourceNotReadyError:
            return False

    def fingerprint(self, start: date, end: date) -> str:
        """Digest of the lines of these days."""
        if (start, end) not in self._digests:
            for _ in self.chunks(start, end):
                pass
        return self._digests[start, end]

    def chunks(self, start: date, end: date) -> Iterator[Chunk]:
        """Lines of the days, a week at a time."""
        digests: list[str] = []
        for first in range(0, (end - start).days + 1, WINDOW_DAYS):
            begin = start + timedelta(days=first)
            lines = self._read(begin, min(end, begin + timedelta(days=WINDOW_DAYS - 1)))
            digests.append(digest_table(lines))
            yield Chunk(lines, self._layout)
        self._digests[start, end] = digest_json(digests)[:32]

    def _read(self, start: date, end: date) -> pa.Table:
        import sqlalchemy as sa

        wanted = self._between(start, end)
        if start <= self.first_day() <= end:
            wanted = sa.or_(wanted, self._time.is_(sa.null()), sa.not_(self._inside))
        schema = raw_schema(self._layout.columns)
        parts = [schema.empty_table()]
        with self._connected() as connection:
            result = connection.execution_options(stream_results=True).execute(self._all.where(wanted))
            for rows in result.partitions(FETCH_ROWS):
                values = ([_text(value) for value in column] for column in zip(*rows, strict=True))
                arrays = [pa.array(column, pa.string()) for column in values]
                blank = [pa.nulls(len(rows), pa.int64()), pa.nulls(len(rows), pa.string())]
                parts.append(pa.table([*blank, *arrays], schema=schema))
        return self._numbered(pa.concat_tables(parts), start, end)

    def _numbered(self, lines: pa.Table, start: date, end: date) -> pa.Table:
        """Lines with their day, ordered by their values and numbered within the day."""
        time = text(self._layout.mapping["event_time"])
        columns = ", ".join(quoted(name) for name in self._layout.columns)
        day = f"CAST({time_sql(time, self._layout.time_format)} AS DATE)"
        inside = f"{day} BETWEEN DATE '{start}' AND DATE '{end}'"
        with engine() as connection:
            connection.register("lines", lines)
            return connection.sql(
                f"""
                SELECT row_number() OVER (PARTITION BY "{DAY}" ORDER BY {columns}) AS "{ROW}",
                    "{MALFORMED}", {columns}, "{DAY}", {literal(self.name)} AS "{SOURCE}"
                FROM (SELECT *, CASE WHEN {inside} THEN {day} ELSE DATE '{self.first_day()}' END AS "{DAY}" FROM lines)
                ORDER BY "{DAY}", "{ROW}"
                """
            ).to_arrow_table()

    @property
    def _inside(self) -> sa.ColumnElement[bool]:
        """Times that can be: from `earliest_day` to tomorrow (UTC)."""
        return self._between(self._settings.earliest_day, datetime.now(UTC).date() + timedelta(days=1))

    def _between(self, start: date, end: date) -> sa.ColumnElement[bool]:
        import sqlalchemy as sa

        low, high = start, end + timedelta(days=1)
        if self._times_are_text:
            return sa.and_(self._time >= str(low), self._time < str(high))
        return sa.and_(self._time >= _midnight(low), self._time < _midnight(high))

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        import sqlalchemy as sa

        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise SourceError(
                f"{self.name} cannot be read ({_first_line(error)}); expected a table that answers. Look at the "
                "database and at settings.ingest.table"
            ) from None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        utc = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return utc.isoformat(sep=" ")
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
