"""One look over all lines of a source before any is judged: how times are written, what columns hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from evergreen.errors import SourceError
from evergreen.ingest.layout import (
    Layout,
    TimeFormat,
    is_slashed,
    number_sql,
    text,
    time_sql,
    whole_number_sql,
)
from evergreen.ingest.lines import ROW
from evergreen.settings.ingest import IngestSettings

ENOUGH_TO_JUDGE = 10  # values; fewer that all break a rule are quarantined, not taken for a wrong column

_CANDIDATES = (TimeFormat.ISO, TimeFormat.DAY_FIRST, TimeFormat.MONTH_FIRST)
_NUMBERS = {"quantity": "whole numbers", "unit_price": "numbers"}


@dataclass
class Survey:
    """Counts over batches of one source; `decide` turns them into the layout that its lines are read with."""

    name: str
    layout: Layout
    earliest: date
    latest: date  # a later line is in the future of this source
    declared: date | None = None  # the one day that the source says it holds
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    first_days: dict[TimeFormat, date] = field(default_factory=dict)

    def look(self, batch: pa.RecordBatch | pa.Table, connection: duckdb.DuckDBPyConnection) -> None:
        """Counts one more batch."""
        self.rows += batch.num_rows
        connection.register("batch", batch)
        [found] = connection.sql(f"SELECT {', '.join(self._sql())} FROM batch").to_arrow_table().to_pylist()
        for name, value in found.items():
            self._add(name, value)
        connection.unregister("batch")

    def decide(self, wanted: str = "auto") -> Layout:
        """The layout with its time format.

        Args:
            wanted: a time format by name, or `auto` to find it.

        Raises:
            SourceError: a whole column has the wrong type.
        """
        time_format = TimeFormat(wanted) if wanted != "auto" else self._time_format()
        self._refuse_wrong_types(time_format)
        return replace(self.layout, time_format=time_format)

    def first_day(self, time_format: TimeFormat) -> date | None:
        """Day of the first line with a readable time, None where there is none."""
        return self.first_days.get(TimeFormat.ISO if time_format is TimeFormat.MIXED else time_format)

    def _sql(self) -> list[str]:
        time = text(self.layout.mapping["event_time"])
        slashed = is_slashed(time)
        first, second = (f"TRY_CAST(regexp_extract({time}, '{p}', 1) AS INT)" for p in (r"^(\d+)", r"^\d+\D(\d+)"))
        parts = [
            f"count({time}) AS event_time",
            f"count(*) FILTER ({slashed}) AS slashed",
            f"count(*) FILTER ({slashed} AND {first} > 12) AS day_first_only",
            f"count(*) FILTER ({slashed} AND {second} > 12) AS month_first_only",
            rf"count(*) FILTER ({slashed} AND regexp_matches({time}, '^\d+\D\d+\D\d{{4}}')) AS four_digit_years",
            f"any_value({time}) FILTER ({time} IS NOT NULL) AS example_event_time",
        ]
        for candidate in _CANDIDATES:
            value = time_sql(time, candidate)
            day = f"CAST({value} AS DATE)"
            inside = f"{day} BETWEEN DATE '{self.earliest}' AND DATE '{self.latest}'"
            parts.append(f"count({value}) AS readable_{candidate}")
            parts.append(f"""arg_min({day}, "{ROW}") FILTER ({inside}) AS first_{candidate}""")
            if self.declared is not None:
                parts.append(f"count(*) FILTER ({day} = DATE '{self.declared}') AS declared_{candidate}")
        for column in _NUMBERS:
            value = text(self.layout.mapping[column])
            read = whole_number_sql(value) if column == "quantity" else number_sql(value)
            parts.append(f"count({value}) AS {column}")
            parts.append(f"count({read}) AS readable_{column}")
            parts.append(f"any_value({value}) FILTER ({value} IS NOT NULL) AS example_{column}")
        return parts

    def _add(self, name: str, value: Any) -> None:
        if name.startswith("example_"):
            if value is not None:
                self.examples.setdefault(name.removeprefix("example_"), str(value))
        elif name.startswith("first_"):
            if value is not None:
                self.first_days.setdefault(TimeFormat(name.removeprefix("first_")), value)
        else:
            self.counts[name] = self.counts.get(name, 0) + int(value)

    def _time_format(self) -> TimeFormat:
        seen = self.counts
        if not seen.get("slashed"):
            return TimeFormat.ISO
        years = seen["four_digit_years"]
        day_first, month_first = seen["day_first_only"], seen["month_first_only"]
        if seen["readable_iso"] or (day_first and month_first) or 0 < years < seen["slashed"]:
            return TimeFormat.MIXED
        if day_first or month_first:
            return TimeFormat.DAY_FIRST if day_first else TimeFormat.MONTH_FIRST
        if self.declared is not None and seen["declared_day_first"] != seen["declared_month_first"]:
            more = seen["declared_day_first"] > seen["declared_month_first"]
            return TimeFormat.DAY_FIRST if more else TimeFormat.MONTH_FIRST
        return TimeFormat.DAY_FIRST if years else TimeFormat.MONTH_FIRST

    def _refuse_wrong_types(self, time_format: TimeFormat) -> None:
        readable = {column: self.counts.get(f"readable_{column}", 0) for column in _NUMBERS}
        shown = TimeFormat.ISO if time_format is TimeFormat.MIXED else time_format
        readable["event_time"] = self.counts.get(f"readable_{shown}", 0)
        if time_format is TimeFormat.MIXED:
            readable["event_time"] += self.counts["slashed"]  # dates all the same: their lines are quarantined by rule
        for column, kind in (*_NUMBERS.items(), ("event_time", "times such as 2011-08-31 17:05:00")):
            values = self.counts.get(column, 0)
            if values >= ENOUGH_TO_JUDGE and not readable[column]:
                raise SourceError(
                    f"{self.name}: column {self.layout.mapping[column]} holds no {column}: none of its {values:,} "
                    f"values can be read (the first: {self.examples[column]!r}); expected {kind}. "
                    "Map the right column in settings.ingest.columns"
                )


def survey_of(
    name: str, layout: Layout, settings: IngestSettings, *, declared: date | None, latest: date | None
) -> Survey:
    """A survey with a source's limits of time: its declared day, else its own last day, else tomorrow (UTC)."""
    last = declared or latest or (datetime.now(UTC).date() + timedelta(days=1))
    return Survey(name, layout, settings.earliest_day, last, declared)
