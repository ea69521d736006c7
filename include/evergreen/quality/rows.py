"""The rows under test, in place: DuckDB reads the staged Parquet files, so that figures cost no memory a row."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from evergreen.errors import DataQualityError
from evergreen.lake import Lake, Staged
from evergreen.lake.digest import digest_json
from evergreen.lake.schemas import TABLES
from evergreen.lake.staged_set import StagedSet
from evergreen.quality.checks import Check, Suite
from evergreen.settings.machine import this_machine

Source = StagedSet | Staged | Mapping[str, Any] | Path | str | Sequence[Path | str]
"""What can be checked: a staged set or one staged table, what its task returned (`manifest` or `folder`), its manifest
file, a folder of Parquet files, Parquet files, or `{table: files}`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """Files of each table under test, and which staged set they came from."""

    files: Mapping[str, tuple[str, ...]]
    staged: Mapping[str, Staged] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Names what is under test: equal for equal staged rows."""
        if self.staged:
            return digest_json({table: part.digest for table, part in self.staged.items()})
        return digest_json({table: list(paths) for table, paths in self.files.items()})

    def days(self, table: str) -> list[date]:
        """Days of a staged table that are under test: those that change, or all where none does."""
        part = self.staged.get(table)
        return [] if part is None else part.changed_days or sorted(part.digests)


def contents(suite: Suite, source: Source, lake: Lake) -> Contents:
    """Finds the files of a suite's tables in what a task staged.

    Raises:
        DataQualityError: there is nothing of this suite in it.
    """
    found = _contents(source, lake)
    if not set(suite.tables) & set(found.files):
        seen = ", ".join(found.files) or "nothing"
        raise DataQualityError(f"suite {suite.name} checks {', '.join(suite.tables)}, was given {seen}")
    return found


def _contents(source: Source, lake: Lake) -> Contents:
    if isinstance(source, Mapping):
        if "manifest" in source:
            return _contents(StagedSet.load(source["manifest"]), lake)
        if "folder" in source:
            return _contents(Path(source["folder"]), lake)
        return Contents({table: tuple(map(str, _listed(paths))) for table, paths in source.items()})
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".json":
            return _contents(StagedSet.load(path), lake)
        return _contents(sorted(path.glob("*.parquet")) if path.is_dir() else [path], lake)
    if isinstance(source, StagedSet | Staged):
        parts = source.parts if isinstance(source, StagedSet) else (source,)
        made = Contents({}, {part.table: part for part in parts})
        files = {table: tuple(part.paths(lake, made.days(table))) for table, part in made.staged.items()}
        return Contents(files, made.staged)
    by_table: dict[str, list[str]] = {}
    for file in source:
        by_table.setdefault(Path(file).stem, []).append(str(file))
    return Contents({table: tuple(paths) for table, paths in by_table.items()})


def _listed(paths: Any) -> Iterable[Any]:
    return [paths] if isinstance(paths, str | Path) else paths


class Rows:
    """The tables under test as views of one DuckDB connection."""

    def __init__(self, found: Contents) -> None:
        machine = this_machine()
        self.found = found
        self.connection = duckdb.connect(
            config={"threads": machine.cores, "memory_limit": f"{max(1, machine.memory_bytes // 2**32)}GiB"}
        )
        self.connection.execute("SET TimeZone = 'UTC'")
        for table in found.files:
            self._view(table)

    def close(self) -> None:
        """Ends the connection."""
        self.connection.close()

    def _view(self, table: str) -> None:
        files = self.found.files[table]
        if files:
            relation = self.connection.read_parquet(list(files), hive_partitioning=True)
            columns = ", ".join(
                "CAST(event_date AS DATE) AS event_date" if name == "event_date" else f'"{name}"'
                for name in relation.columns
            )
            relation.select(columns).create_view(table)
        else:
            self.connection.from_arrow(TABLES[table].schema.empty_table()).create_view(table)

    def has(self, table: str) -> bool:
        """Is the table under test at all?"""
        return table in self.found.files

    def columns(self, table: str) -> dict[str, str]:
        """Column names and DuckDB types."""
        relation = self.connection.view(table)
        return {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}

    def row(self, sql: str) -> tuple[Any, ...]:
        """First row of a query, empty where it has none."""
        found = self.connection.execute(sql).fetchall()  # all: an unfinished result would block the connection
        return tuple(found[0]) if found else ()

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.row(f'SELECT count(*) FROM "{table}"')[0])

    def figures(self, table: str, checks: Iterable[Check]) -> dict[str, Any]:
        """The figures of checks on one table, over all of its rows, in one pass.

        A figure that cannot be computed (its column is missing, or has another type) is left out: its expectation then
        fails to run, which is a failure.
        """
        asked = {check.name: check.sql for check in checks if check.sql}
        if not asked or not self.has(table):
            return {}
        try:
            return self._aggregates(table, asked)
        except duckdb.Error:
            found: dict[str, Any] = {}
            for name, sql in asked.items():
                try:
                    found |= self._aggregates(table, {name: sql})
                except duckdb.Error as error:
                    logger.warning("%s.%s cannot be computed: %s", table, name, str(error).splitlines()[0])
            return found

    def _aggregates(self, table: str, asked: Mapping[str, str]) -> dict[str, Any]:
        parts = ", ".join(f'{sql} AS "{name}"' for name, sql in asked.items())
        return dict(zip(asked, self.row(f'SELECT {parts} FROM "{table}"'), strict=True))

    def sample(self, table: str, *, by: str, limit: int, seed: int) -> str:
        """Makes a sample of a table, if it has more rows than the limit, and gives the name of what to read.

        A stratum gives its share of the limit, and at least a hundred rows where it has them. Which rows is decided by
        a hash of their place in files that are named by their content: the same staged rows give the same sample.

        Args:
            table: name of the table.
            by: column whose values are the strata.
            limit: rows above which a sample is drawn, and about the rows that it has.
            seed: of the hash.
        """
        rows = self.count(table)
        if rows <= limit or by not in self.columns(table):
            return table
        name = f"{table}_sample"
        paths = self.connection.read_parquet(
            list(self.found.files[table]), hive_partitioning=True, filename=True, file_row_number=True
        )
        paths.create_view("placed", replace=True)
        self.connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE "{name}" AS
            WITH strata AS (
                SELECT {by} AS stratum, greatest({limit / rows}, 100.0 / count(*)) AS share FROM placed GROUP BY {by}
            )
            SELECT placed.* EXCLUDE (filename, file_row_number)
            FROM placed JOIN strata ON placed.{by} = strata.stratum
            WHERE hash(file_row_number, parse_filename(filename), {seed}) % 1000000 < share * 1000000
            """
        ).fetchall()
        return name

    def frame(self, table: str, columns: Iterable[str] | None = None) -> pd.DataFrame:
        """A table or sample as a frame, of the asked columns that it has."""
        wanted = [name for name in self.columns(table) if columns is None or name in set(columns)]
        if not wanted:
            return pd.DataFrame()
        selected = ", ".join(f'"{name}"' for name in wanted)
        return self.connection.execute(f'SELECT {selected} FROM "{table}"').df()
