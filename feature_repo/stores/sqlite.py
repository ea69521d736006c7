"""Feast online store in one SQLite file: one row per entity and view, in transactions that readers never see half of.

Feast's own SQLite store writes one row per entity AND feature, one statement each, and lets an old day overwrite a
newer one. Both are measured in `benchmarks/online-store.json`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from feast import Entity, FeatureView
from feast.infra.online_stores.helpers import compute_table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from feature_repo.stores.rows import WAIT_SECONDS, RowOnlineStore, Stored, decoded, microseconds, serialized

KEYS_A_QUERY = 10_000  # SQLite takes 32,766 parameters


class RowSqliteOnlineStoreConfig(FeastConfigBaseModel):
    """Where the file is."""

    type: Literal["feature_repo.stores.sqlite.RowSqliteOnlineStore"] = "feature_repo.stores.sqlite.RowSqliteOnlineStore"
    path: str
    """SQLite file, relative to the feature repository."""


class RowSqliteOnlineStore(RowOnlineStore):
    """Online store of one machine."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._layouts: dict[int, list[str]] = {}

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Event time and values of each key, (None, None) where the store has none."""
        connection = self._connect(config)
        keys = [serialized(config, key) for key in entity_keys]
        found: dict[bytes, tuple[int, int, bytes]] = {}
        for start in range(0, len(keys), KEYS_A_QUERY):
            some = keys[start : start + KEYS_A_QUERY]
            rows = connection.execute(
                f"SELECT entity_key, event_time, layout, features FROM {_table(config, table)} "
                f"WHERE entity_key IN ({','.join('?' * len(some))})",
                some,
            )
            found.update((key, (seen, layout, features)) for key, seen, layout, features in rows)
        wanted = None if requested_features is None else set(requested_features)
        return [self._decode(connection, found.get(key), wanted) for key in keys]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Makes the tables of new views and drops those of deleted ones."""
        with self.transaction(config) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS layouts (id INTEGER PRIMARY KEY, names TEXT UNIQUE)")
            connection.execute("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT NOT NULL)")
            for view in tables_to_keep:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {_table(config, view)} (entity_key BLOB PRIMARY KEY, "
                    "event_time INTEGER NOT NULL, created_time INTEGER, layout INTEGER, features BLOB NOT NULL)"
                )
            for view in tables_to_delete:
                connection.execute(f"DROP TABLE IF EXISTS {_table(config, view)}")

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Removes the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{_path(config)}{suffix}").unlink()

    @contextmanager
    def transaction(self, config: RepoConfig) -> Iterator[sqlite3.Connection]:
        """All or nothing: other connections see what is written within only once the outermost transaction ends."""
        connection = self._connect(config)
        if connection.in_transaction:
            yield connection
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            self._layouts.clear()
            raise
        connection.execute("COMMIT")

    def delete(self, config: RepoConfig, view: FeatureView, keys: Iterable[EntityKey]) -> int:
        """Forgets entities; gives how many there were."""
        with self.transaction(config) as connection:
            before = connection.total_changes
            connection.executemany(
                f"DELETE FROM {_table(config, view)} WHERE entity_key = ?", ((serialized(config, key),) for key in keys)
            )
            return connection.total_changes - before

    def prune(self, config: RepoConfig, view: FeatureView, oldest: datetime | None) -> int:
        """Forgets rows with an event time before `oldest` (None: all rows); gives how many there were."""
        where = "" if oldest is None else f" WHERE event_time < {microseconds(oldest)}"
        with self.transaction(config) as connection:
            return connection.execute(f"DELETE FROM {_table(config, view)}{where}").rowcount

    def count(self, config: RepoConfig, view: FeatureView) -> int:
        """Entities of a view in the store."""
        query = f"SELECT count(*) FROM {_table(config, view)}"
        return int(self._connect(config).execute(query).fetchone()[0])

    def note(self, config: RepoConfig, name: str, text: str) -> None:
        """Keeps a text beside the rows, in the same transaction as they."""
        with self.transaction(config) as connection:
            connection.execute("INSERT OR REPLACE INTO notes (name, text) VALUES (?, ?)", (name, text))

    def noted(self, config: RepoConfig, name: str) -> str | None:
        """The text that was kept under a name."""
        row = self._connect(config).execute("SELECT text FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _write(
        self,
        config: RepoConfig,
        view: FeatureView,
        names: list[str],
        rows: Iterable[Stored],
    ) -> None:
        with self.transaction(config) as connection:
            text = json.dumps(names)
            connection.execute("INSERT OR IGNORE INTO layouts (names) VALUES (?)", (text,))
            layout = int(connection.execute("SELECT id FROM layouts WHERE names = ?", (text,)).fetchone()[0])
            connection.executemany(
                f"INSERT INTO {_table(config, view)} (entity_key, event_time, created_time, features, layout) "
                f"VALUES (?, ?, ?, ?, {layout}) ON CONFLICT (entity_key) DO UPDATE SET "
                "event_time = excluded.event_time, created_time = excluded.created_time, "
                "layout = excluded.layout, features = excluded.features "
                "WHERE excluded.event_time >= event_time",
                rows,
            )

    def _connect(self, config: RepoConfig) -> sqlite3.Connection:
        if self._connection is None:
            path = _path(config)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
        return self._connection

    def _decode(
        self, connection: sqlite3.Connection, row: tuple[int, int, bytes] | None, wanted: set[str] | None
    ) -> tuple[datetime | None, dict[str, Value] | None]:
        if row is None:
            return None, None
        seen, layout, features = row
        if layout not in self._layouts:
            text = connection.execute("SELECT names FROM layouts WHERE id = ?", (layout,)).fetchone()[0]
            self._layouts[layout] = json.loads(text)
        return decoded((seen, self._layouts[layout], features), wanted)


def _path(config: RepoConfig) -> Path:
    path = Path(config.online_store.path)
    return path if path.is_absolute() else Path(config.repo_path or ".") / path


def _table(config: RepoConfig, view: FeatureView) -> str:
    return '"' + compute_table_id(config.project, view).replace('"', '""') + '"'
