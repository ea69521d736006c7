"""The ledger's database: one writer at a time, and rows of history that are never changed.

Times are ISO 8601 text in UTC, days `YYYY-MM-DD`: they sort and compare alike on SQLite and PostgreSQL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
)
from sqlalchemy.pool import NullPool

from evergreen.settings import Settings

METADATA = MetaData()

ENTRIES = Table(
    "ledger_entries",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),  # canonical JSON of the entry's fields: the text that is hashed
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

HEAD = Table(
    "ledger_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("entries", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)

CHAMPIONS = Table(
    "champions",
    METADATA,
    Column("model_name", String(200), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(20), nullable=False),  # promotion or rollback
    Column("version", String(200), nullable=False),
    Column("bundle_digest", String(64), nullable=False),
    Column("evidence_digest", String(64), nullable=False),
    Column("data_day", String(10), nullable=False),
    Column("promoted_at", String(32), nullable=False),
    Column("ledger_sequence", Integer, nullable=False),
)

BARRED = Table(
    "barred_versions",
    METADATA,
    Column("model_name", String(200), primary_key=True),
    Column("version", String(200), primary_key=True),
    Column("bundle_digest", String(64), nullable=False),
    Column("reason", Text, nullable=False),
)

APPROVALS = Table(
    "approvals",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),  # order of the requests
    Column("approval_id", String(36), nullable=False, unique=True),
    Column("model_name", String(200), nullable=False),
    Column("evidence_digest", String(64), nullable=False, index=True),
    Column("state", String(20), nullable=False),
    Column("requested_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("decided_by", String(200), nullable=False),
    Column("decided_at", String(32), nullable=False),
    Column("used_at", String(32), nullable=False),
)

APPEND_ONLY = (ENTRIES, CHAMPIONS)
AUDIT_LOG = "audit_log"
WRITE_LOCK = 0x65766572  # "ever"; any number, the same for all writers of one database


def ledger_folder(settings: Settings) -> Path:
    """Folder of the ledger's database, its mirror and its lock."""
    return settings.home_path / "ledger"


def ledger_engine(settings: Settings) -> Engine:
    """An engine without a pool: Airflow forks its workers, and a connection must not outlive its transaction.

    With the execution option `writes=True` a transaction begins with the ledger's one write lock: SQLite's own,
    or an advisory lock on PostgreSQL. Without it, it reads one consistent state and can write nothing on PostgreSQL.
    """
    folder = ledger_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    url = settings.promotion.ledger_url or f"sqlite:///{folder / 'ledger.db'}"
    on_sqlite = url.startswith("sqlite")
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 60} if on_sqlite else {})
    if on_sqlite:
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "begin", _begin_on_postgresql)
    return engine


def create_tables(engine: Engine, fields: tuple[str, ...], genesis: str) -> None:
    """Creates tables, triggers that refuse changes of history, and the view `audit_log` of the entries' `fields`."""
    if inspect(engine).has_table(ENTRIES.name):
        return
    with engine.execution_options(writes=True).begin() as connection:
        if inspect(connection).has_table(ENTRIES.name):
            return  # made by whoever held the lock before
        METADATA.create_all(connection)
        connection.execute(insert(HEAD).values(id=1, entries=0, hash=genesis))
        connection.exec_driver_sql(audit_log_view(engine.dialect.name, fields))
        refuse = _refuse_changes if engine.dialect.name == "sqlite" else _refuse_changes_on_postgresql
        for table in APPEND_ONLY:
            refuse(connection, table.name)


def audit_log_view(dialect: str, fields: tuple[str, ...]) -> str:
    """The statement that makes the view `audit_log`: a column a field of the entries."""
    extract = "json_extract(body, '$.{0}') AS \"{0}\"" if dialect == "sqlite" else "body::json ->> '{0}' AS \"{0}\""
    columns = ", ".join(extract.format(name) for name in fields)
    return f"CREATE VIEW {AUDIT_LOG} AS SELECT sequence, {columns} FROM {ENTRIES.name}"


def _refuse_changes(connection: Connection, table: str) -> None:
    for action in ("UPDATE", "DELETE"):
        connection.exec_driver_sql(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def _refuse_changes_on_postgresql(connection: Connection, table: str) -> None:
    connection.exec_driver_sql(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME; END $$"
    )
    for level, actions in (("ROW", "UPDATE OR DELETE"), ("STATEMENT", "TRUNCATE")):
        connection.exec_driver_sql(
            f"CREATE TRIGGER {table}_append_only_{level.lower()} BEFORE {actions} ON {table} "
            f"FOR EACH {level} EXECUTE FUNCTION refuse_change()"
        )


def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
    # sqlite3 would begin deferred transactions: two writers could then both read before either writes.
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_on_postgresql(connection: Connection) -> None:
    """One writer at a time, as on SQLite: what a compare-and-set has read cannot change before it has written."""
    if connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
