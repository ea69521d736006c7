"""Source lines on their way in: all values as text, plus where each line stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from evergreen.settings.machine import this_machine

# Names that no source column has: readers refuse headers that begin with `#`.
ROW = "#row"  # position in the source, 1 = first line of data
MALFORMED = "#malformed"  # the text of a line that has too many or too few fields; its columns are null
DAY = "#day"  # the day that the line belongs to
SOURCE = "#source"  # name of the file, drop or table


BATCH_ROWS = 131_072  # read at a time
CHUNK_ROWS = 400_000  # judged at a time, unless one day has more


@dataclass(frozen=True)
class RawTable:
    """One file, sheet set or query result: named text columns, read in batches, in the source's order."""

    name: str
    columns: tuple[str, ...]
    batches: Iterator[pa.RecordBatch]  # `ROW`, `MALFORMED`, then `columns`; all text but `ROW`


def raw_schema(columns: tuple[str, ...]) -> pa.Schema:
    """The schema of a `RawTable`'s batches."""
    return pa.schema(
        [
            pa.field(ROW, pa.int64()),
            pa.field(MALFORMED, pa.string()),
            *(pa.field(name, pa.string()) for name in columns),
        ]
    )


def engine() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that keeps to this machine's cores and a quarter of its memory."""
    machine = this_machine()
    return duckdb.connect(
        config={"threads": machine.cores, "memory_limit": f"{max(1, machine.memory_bytes // 2**32)}GiB"}
    )


def quoted(name: str) -> str:
    """A column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"
