"""Delta tables, read at a version. One file name holds its day's digest, so that the log alone tells what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from evergreen.errors import LakeError
from evergreen.lake.schemas import TABLES, TableSpec

PARTITION = "event_date"


@dataclass(frozen=True)
class DayFile:
    """One Parquet file of one day in one version of a table."""

    path: str  # relative to the table's root
    day: date
    digest: str  # of the whole day's content, not of this file alone
    rows: int
    size_bytes: int


class LakeTable:
    """A Delta table at one version (the newest unless a version is given). Immutable: to reload, ask the lake."""

    def __init__(self, root: Path, spec: TableSpec, version: int | None = None) -> None:
        self.root = root
        self.spec = spec
        self._asked = version
        if version is not None and self._delta is None:
            raise LakeError(f"table {spec.name} has no version {version}: it does not exist yet ({root})")

    @cached_property
    def _delta(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.root, version=self._asked)
        except TableNotFoundError:
            return None
        except Exception as error:  # delta-rs has no class of its own for a missing version
            raise LakeError(f"table {self.spec.name} has no version {self._asked} ({self.root}): {error}") from error

    @property
    def version(self) -> int | None:
        """Version of the Delta log that this reads, None where the table does not exist yet."""
        return None if self._delta is None else int(self._delta.version())

    @cached_property
    def files(self) -> tuple[DayFile, ...]:
        """All files of this version, by day and path."""
        if self._delta is None:
            return ()
        actions = pa.table(self._delta.get_add_actions(flatten=True)).to_pylist()
        found = (
            DayFile(
                path=action["path"],
                day=_as_date(action[f"partition.{PARTITION}"]),
                digest=Path(action["path"]).name.split("-", 1)[0],
                rows=int(action["num_records"]),
                size_bytes=int(action["size_bytes"]),
            )
            for action in actions
        )
        return tuple(sorted(found, key=lambda file: (file.day, file.path)))

    @cached_property
    def digests(self) -> dict[date, str]:
        """Content digest of each day (first 32 hex digits of the day's SHA-256), in order of days."""
        return {file.day: file.digest for file in self.files}

    @property
    def rows(self) -> int:
        """Rows in this version."""
        return sum(file.rows for file in self.files)

    def days(self) -> list[date]:
        """Days with a file, sorted. An ingested day without purchases has a file without rows."""
        return list(self.digests)

    def paths(self, start: date | None = None, end: date | None = None) -> list[str]:
        """Absolute paths of the files of `start` to `end` (both inclusive). The day stands in the path, Hive style."""
        return [str(self.root / file.path) for file in self._between(start, end)]

    def read(
        self, start: date | None = None, end: date | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Rows of `start` to `end` (both inclusive) as one Arrow table in the canonical column order."""
        wanted = list(columns) if columns is not None else list(self.spec.schema.names)
        stored = [name for name in wanted if name != PARTITION]
        schema = pa.schema([self.spec.schema.field(name) for name in wanted])
        parts = [
            _with_day(pq.ParquetFile(self.root / file.path).read(columns=stored), file.day, schema)
            for file in self._between(start, end)
            if file.rows
        ]
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def _between(self, start: date | None, end: date | None) -> Iterable[DayFile]:
        return (f for f in self.files if (start is None or f.day >= start) and (end is None or f.day <= end))


class Lake:
    """All tables under one root folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def table(self, name: str, version: int | None = None) -> LakeTable:
        """A table by name, at its newest or at a pinned version.

        Raises:
            LakeError: the name is unknown or the version does not exist.
        """
        if name not in TABLES:
            raise LakeError(f"table {name!r} is unknown, must be one of: {', '.join(TABLES)}")
        return LakeTable(self.root / name, TABLES[name], version)

    def versions(self) -> dict[str, int]:
        """Newest version of every table that exists."""
        found = {name: self.table(name).version for name in TABLES}
        return {name: version for name, version in found.items() if version is not None}


def _with_day(part: pa.Table, day: date, schema: pa.Schema) -> pa.Table:
    if PARTITION in schema.names:
        part = part.append_column(PARTITION, pa.array([day] * part.num_rows, pa.date32()))
    return part.select(schema.names).cast(schema)


def _as_date(value: date | str) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value
