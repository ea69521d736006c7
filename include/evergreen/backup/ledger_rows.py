"""The ledger as rows: one consistent read of all its tables, the same from SQLite and from PostgreSQL.

Rows need no program of the database (`pg_dump`), no password on a command line, and can be read back into either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, func, insert, inspect, select

from evergreen.backup.manifest import LEDGER
from evergreen.errors import BackupError
from evergreen.lake.digest import canonical_json
from evergreen.promotion.database import AUDIT_LOG, ENTRIES, HEAD, METADATA, create_tables, ledger_engine
from evergreen.promotion.ledger import FIELDS, GENESIS, Ledger
from evergreen.settings import Settings

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of each table by its name."""


def export_rows(settings: Settings) -> Rows:
    """All rows of all tables, as of one moment, in order of their keys."""
    with Ledger(settings).reading() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            ]
            for table in METADATA.sorted_tables
        }


def texts(rows: Rows) -> dict[str, str]:
    """The rows as files of JSON lines, by the files' names in a backup."""
    return {
        f"{LEDGER}/{name}.jsonl": "".join(canonical_json(row) + "\n" for row in table) for name, table in rows.items()
    }


def read_rows(backup: Path) -> Rows:
    """The rows that a backup holds.

    Raises:
        BackupError: a file is missing or holds something else.
    """
    found = {}
    for table in METADATA.sorted_tables:
        file = backup / LEDGER / f"{table.name}.jsonl"
        try:
            found[table.name] = [json.loads(line) for line in file.read_text().split("\n") if line]
        except (OSError, ValueError) as error:
            raise BackupError(
                f"{file} cannot be read ({error}): expected rows of the ledger. Use another backup"
            ) from None
    return found


def head_of(rows: Rows) -> dict[str, Any]:
    """Number of entries and hash of the newest one."""
    [head] = rows[HEAD.name] or [{"entries": 0, "hash": GENESIS}]
    return {"entries": head["entries"], "head": head["hash"]}


def import_rows(settings: Settings, rows: Rows, *, aside: str = "") -> None:
    """Fills the ledger's database with rows; nothing is done where it holds them already.

    Args:
        settings: which database.
        rows: what `read_rows` gave.
        aside: on PostgreSQL, the schema that tables with other entries are moved to. Empty: they are an error.

    Raises:
        BackupError: the database holds another ledger.
    """
    engine = ledger_engine(settings)
    held = held_entries(settings)
    if held and _holds(engine, rows):
        return
    if held:
        if not aside or engine.dialect.name != "postgresql":
            raise BackupError(
                f"the ledger's database holds {held} entries already: expected an empty one, or --replace, which moves "
                "them aside"
            )
        _move_aside(engine, aside)
    create_tables(engine, FIELDS, GENESIS)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(delete(HEAD))
        for table in METADATA.sorted_tables:
            if rows[table.name]:
                connection.execute(insert(table), [dict(row) for row in rows[table.name]])


def held_entries(settings: Settings) -> int:
    """Number of entries in the ledger's database, 0 where it has no ledger yet. Nothing is created."""
    engine = ledger_engine(settings)
    if not inspect(engine).has_table(ENTRIES.name):
        return 0
    with engine.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(ENTRIES)).scalar_one())


def _holds(engine: Engine, rows: Rows) -> bool:
    """Whether just these entries are there: a restore that was killed after them goes on."""
    with engine.begin() as connection:
        head = connection.execute(select(HEAD.c.entries, HEAD.c.hash)).one()
    return {"entries": head.entries, "head": head.hash} == head_of(rows)


def _move_aside(engine: Engine, schema: str) -> None:
    with engine.execution_options(writes=True).begin() as connection:
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        connection.exec_driver_sql(f'ALTER VIEW {AUDIT_LOG} SET SCHEMA "{schema}"')
        for table in METADATA.sorted_tables:
            connection.exec_driver_sql(f'ALTER TABLE {table.name} SET SCHEMA "{schema}"')
