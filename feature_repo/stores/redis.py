"""Feast online store in Redis: one hash a view, and switch-overs that readers never see half of.

Feast's own Redis store skips a row whose event time equals the stored one, so that a corrected day would never arrive,
and knows no transaction. Here a transaction writes beside the served rows and its end applies everything in ONE script,
which Redis runs alone:

- **Atomic**: what one transaction changes, over all views, with its notes. A view that was emptied first is renamed
  into place at once; else the changed rows are copied, and readers wait meanwhile (about a second for 500,000 rows).
  After a crash, also of Redis (`appendonly yes`), all of it is there or none.
- **Not atomic**: a request that reads several views asks once for each; a switch-over may lie in between. Whoever needs
  to know compares the note of what is materialized.
- **One writer at a time**: the lock names the writer's connection. One that died is gone from Redis's list of clients,
  and the next writer takes its place; what it wrote beside the served rows expires.
- Redis must not evict: `maxmemory-policy noeviction`, its default.

All keys of a project share a hash tag: in a cluster they lie on one node, since a script cannot span several.
"""

from __future__ import annotations

import json
import struct
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Literal, cast

import redis
from feast import Entity, FeatureView
from feast.infra.online_stores.helpers import compute_table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from feature_repo.stores.rows import WAIT_SECONDS, Read, RowOnlineStore, Stored, decoded, microseconds, serialized

ROWS_A_CALL = 2_000
LOCK_SECONDS = 600  # of a writer whose machine vanished; any other is missed at once
BESIDE_SECONDS = 3_600
HEADER = struct.Struct(">QqI")  # event time, creation time, layout; big-endian: event times sort as bytes
SHIFT = 2**63  # event times before 1970 are negative, and sort as unsigned all the same
NOT_CREATED = -(2**63)

_TAKE_LOCK = """
local held = redis.call('GET', KEYS[1])
if held == false or held == ARGV[3] then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
    return 1
end
return 0
"""

# A row goes beside the served ones unless the entity has a newer one; gives how many entities are new.
_WRITE = """
local new = 0
for i = 2, #ARGV, 2 do
    local held = redis.call('HGET', KEYS[1], ARGV[i])
    if held == false and ARGV[1] == '0' then held = redis.call('HGET', KEYS[2], ARGV[i]) end
    local absent = held == false or held == ''
    if absent or string.sub(ARGV[i + 1], 1, 8) >= string.sub(held, 1, 8) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
    if absent then new = new + 1 end
end
return new
"""

# An empty value beside a served row means that the entity is forgotten. Where the view was emptied, nothing needs one.
_FORGET = """
local gone = 0
for i = 2, #ARGV do
    local held = redis.call('HGET', KEYS[1], ARGV[i])
    if held == false and ARGV[1] == '0' then held = redis.call('HGET', KEYS[2], ARGV[i]) end
    if held ~= false and held ~= '' then
        if ARGV[1] == '0' then
            redis.call('HSET', KEYS[1], ARGV[i], '')
        else
            redis.call('HDEL', KEYS[1], ARGV[i])
        end
        gone = gone + 1
    end
end
return gone
"""

_OLDER = """
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 2000)
local older = {found[1]}
for i = 1, #found[2], 2 do
    local value = found[2][i + 1]
    if value ~= '' and string.sub(value, 1, 8) < ARGV[2] then older[#older + 1] = found[2][i] end
end
return older
"""

# KEYS: lock, notes, then beside and served of each view. ARGV: token, number of views, 1 for each that was emptied
# first, then names and texts of notes.
_COMMIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local views = tonumber(ARGV[2])
for view = 1, views do
    local beside, served = KEYS[1 + 2 * view], KEYS[2 + 2 * view]
    local written = redis.call('EXISTS', beside) == 1
    if ARGV[2 + view] == '1' then
        redis.call('UNLINK', served)
        if written then
            redis.call('PERSIST', beside)
            redis.call('RENAME', beside, served)
        end
    elseif written then
        local rows = redis.call('HGETALL', beside)
        for i = 1, #rows, 2 do
            if rows[i + 1] == '' then
                redis.call('HDEL', served, rows[i])
            else
                redis.call('HSET', served, rows[i], rows[i + 1])
            end
        end
        redis.call('UNLINK', beside)
    end
end
for i = 3 + views, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('DEL', KEYS[1])
return 1
"""

_LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RedisUnavailableError(RuntimeError):
    """Another writer holds the store, or this one lost it: nothing was changed."""


class RowRedisOnlineStoreConfig(FeastConfigBaseModel):
    """Where Redis is."""

    type: Literal["feature_repo.stores.redis.RowRedisOnlineStore"] = "feature_repo.stores.redis.RowRedisOnlineStore"
    url: str
    """`redis://[:password@]host:port/database`; `rediss://` for TLS."""


@dataclass
class _Transaction:
    """What is written beside the served rows."""

    connection: redis.Redis
    token: str
    emptied: dict[str, bool] = field(default_factory=dict)  # by view: are the served rows to be forgotten?
    grown: dict[str, int] = field(default_factory=dict)  # by view: entities more than are served (if not emptied)
    notes: dict[str, str] = field(default_factory=dict)

    def beside(self, served: str) -> str:
        """Key of what will be served under another key."""
        return f"{served}:{self.token}"

    def touch(self, served: str) -> tuple[str, str]:
        """Remembers that a view is changed; gives whether it was emptied (`1` or `0`) and the key beside."""
        emptied = self.emptied.setdefault(served, False)
        self.grown.setdefault(served, 0)
        return str(int(emptied)), self.beside(served)


class RowRedisOnlineStore(RowOnlineStore):
    """Online store of several machines."""

    def __init__(self) -> None:
        self._client: redis.Redis | None = None
        self._layouts: dict[int, list[str]] = {}
        self._open: _Transaction | None = None

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Read]:
        """Event time and values of each key, (None, None) where the store has none."""
        keys = [serialized(config, key) for key in entity_keys]
        found: list[bytes | None] = []
        for start in range(0, len(keys), ROWS_A_CALL):
            found += self._get(config, _served(config, table), keys[start : start + ROWS_A_CALL])
        wanted = None if requested_features is None else set(requested_features)
        return [self._decode(config, row, wanted) for row in found]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Drops the rows of deleted views; those of new ones need nothing made."""
        for view in tables_to_delete:
            self._connect(config).unlink(_served(config, view))

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Removes everything that belongs to the project."""
        client = self._connect(config)
        for key in client.scan_iter(match=f"{_prefix(config)}*".replace("[", r"\["), count=1000):
            client.unlink(key)
        self._layouts.clear()

    @contextmanager
    def transaction(self, config: RepoConfig) -> Iterator[_Transaction]:
        """All or nothing: others see what is written within only once the outermost transaction ends.

        Raises:
            RedisUnavailableError: another writer holds the store for longer than a minute, or this one lost it.
        """
        if self._open is not None:
            yield self._open
            return
        connection = redis.Redis.from_url(config.online_store.url, single_connection_client=True)
        opened = _Transaction(connection, f"{connection.client_id()}-{uuid.uuid4().hex}")
        lock = f"{_prefix(config)}lock"
        try:
            _take(connection, lock, opened.token)
            self._open = opened
            try:
                yield opened
            finally:
                self._open = None
            _commit(config, opened, lock)
        finally:
            with suppress(redis.RedisError):  # a lost connection frees the lock by itself
                connection.eval(_LET_GO, 1, lock, opened.token)
                for served in opened.emptied:
                    connection.unlink(opened.beside(served))
            connection.close()

    def delete(self, config: RepoConfig, view: FeatureView, keys: Iterable[EntityKey]) -> int:
        """Forgets entities; gives how many there were."""
        with self.transaction(config) as opened:
            return _forget(opened, _served(config, view), (serialized(config, key) for key in keys))

    def prune(self, config: RepoConfig, view: FeatureView, oldest: datetime | None) -> int:
        """Forgets rows with an event time before `oldest` (None: all rows); gives how many there were."""
        served = _served(config, view)
        with self.transaction(config) as opened:
            if oldest is None:
                before = self.count(config, view)
                opened.connection.unlink(opened.beside(served))
                opened.emptied[served], opened.grown[served] = True, 0
                return before
            limit = HEADER.pack(microseconds(oldest) + SHIFT, 0, 0)[:8]
            emptied, beside = opened.touch(served)
            gone = 0
            for place in (beside, *([] if emptied == "1" else [served])):
                older = _older(opened.connection, place, limit)
                if place == served:  # what stands beside is what counts
                    older = _not_in(opened.connection, beside, older)
                gone += _forget(opened, served, older)
            return gone

    def count(self, config: RepoConfig, view: FeatureView) -> int:
        """Entities of a view in the store."""
        served = _served(config, view)
        opened = self._open
        if opened is None or served not in opened.emptied:
            return cast(int, self._connect(config).hlen(served))
        base = 0 if opened.emptied[served] else cast(int, opened.connection.hlen(served))
        return base + opened.grown[served]

    def note(self, config: RepoConfig, name: str, text: str) -> None:
        """Keeps a text beside the rows, in the same transaction as they."""
        with self.transaction(config) as opened:
            opened.notes[name] = text

    def noted(self, config: RepoConfig, name: str) -> str | None:
        """The text that was kept under a name."""
        if self._open is not None and name in self._open.notes:
            return self._open.notes[name]
        text = cast(bytes | None, self._connect(config).hget(f"{_prefix(config)}notes", name))
        return None if text is None else text.decode()

    def _write(self, config: RepoConfig, view: FeatureView, names: list[str], rows: Iterable[Stored]) -> None:
        served = _served(config, view)
        with self.transaction(config) as opened:
            layout = self._layout(config, names)
            emptied, beside = opened.touch(served)
            packed = (
                (key, HEADER.pack(seen + SHIFT, NOT_CREATED if created is None else created, layout) + features)
                for key, seen, created, features in rows
            )
            while some := list(islice(packed, ROWS_A_CALL)):
                flat = [part for row in some for part in row]
                opened.grown[served] += int(
                    cast(Any, opened.connection.eval(_WRITE, 2, beside, served, emptied, *cast(Any, flat)))
                )
            _keep(opened, served, f"{_prefix(config)}lock")

    def _get(self, config: RepoConfig, served: str, keys: list[bytes]) -> list[bytes | None]:
        opened = self._open
        if opened is None or served not in opened.emptied:
            return cast("list[bytes | None]", self._connect(config).hmget(served, cast(Any, keys)))
        beside = cast("list[bytes | None]", opened.connection.hmget(opened.beside(served), cast(Any, keys)))
        if opened.emptied[served]:
            return [row or None for row in beside]
        base = cast("list[bytes | None]", opened.connection.hmget(served, cast(Any, keys)))
        return [below if row is None else (row or None) for row, below in zip(beside, base, strict=True)]

    def _layout(self, config: RepoConfig, names: list[str]) -> int:
        """Number of a layout. Given outside of transactions and never again: a number means one layout for ever."""
        client, text = self._connect(config), json.dumps(names)
        numbers = f"{_prefix(config)}layouts"
        number = cast(bytes | None, client.hget(numbers, text))
        if number is None:
            made = cast(int, client.incr(f"{_prefix(config)}last_layout"))
            client.hset(f"{_prefix(config)}layout_names", str(made), text)  # first, so that a reader finds it
            client.hsetnx(numbers, text, str(made))
            number = cast(bytes, client.hget(numbers, text))
        return int(number)

    def _decode(self, config: RepoConfig, row: bytes | None, wanted: set[str] | None) -> Read:
        if row is None:
            return None, None
        seen, _, layout = HEADER.unpack_from(row)
        if layout not in self._layouts:
            text = cast(bytes, self._connect(config).hget(f"{_prefix(config)}layout_names", str(layout)))
            self._layouts[layout] = json.loads(text)
        return decoded((seen - SHIFT, self._layouts[layout], row[HEADER.size :]), wanted)

    def _connect(self, config: RepoConfig) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis.from_url(config.online_store.url, health_check_interval=30)
        return self._client


def _take(connection: redis.Redis, lock: str, token: str) -> None:
    """Waits for the lock; takes that of a writer whose connection is gone."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        holder = cast(bytes | None, connection.get(lock))
        gone = holder if holder is not None and not _connected(connection, holder) else b""
        if connection.eval(_TAKE_LOCK, 1, lock, token, str(LOCK_SECONDS), cast(Any, gone)):
            return
        if time.monotonic() > deadline:
            raise RedisUnavailableError(f"another writer holds the online store for more than {WAIT_SECONDS:.0f} s")
        time.sleep(0.05)


def _connected(connection: redis.Redis, token: bytes) -> bool:
    number = token.decode().partition("-")[0]
    return bool(cast(Any, connection.client_list(client_id=[number])))


def _keep(opened: _Transaction, served: str, lock: str) -> None:
    """Time for the lock and for what stands beside."""
    opened.connection.expire(opened.beside(served), BESIDE_SECONDS)
    opened.connection.expire(lock, LOCK_SECONDS)


def _commit(config: RepoConfig, opened: _Transaction, lock: str) -> None:
    views = list(opened.emptied)
    keys = [lock, f"{_prefix(config)}notes"]
    keys += [key for served in views for key in (opened.beside(served), served)]
    values = [opened.token, str(len(views)), *(str(int(opened.emptied[served])) for served in views)]
    values += [text for note in opened.notes.items() for text in note]
    if not opened.connection.eval(_COMMIT, len(keys), *keys, *values):
        raise RedisUnavailableError("the online store was taken over by another writer: nothing was changed")


def _forget(opened: _Transaction, served: str, keys: Iterable[bytes]) -> int:
    emptied, beside = opened.touch(served)
    waiting, gone = iter(keys), 0
    while some := list(islice(waiting, ROWS_A_CALL)):
        gone += int(cast(Any, opened.connection.eval(_FORGET, 2, beside, served, emptied, *cast(Any, some))))
    opened.grown[served] -= gone
    opened.connection.expire(beside, BESIDE_SECONDS)
    return gone


def _older(connection: redis.Redis, place: str, limit: bytes) -> list[bytes]:
    """Entities whose row is older than a packed event time."""
    found, cursor = [], b"0"
    while True:
        cursor, *some = cast("list[bytes]", connection.eval(_OLDER, 1, place, cast(Any, cursor), cast(Any, limit)))
        found += some
        if cursor == b"0":
            return list(dict.fromkeys(found))  # a scan may give an entity twice


def _not_in(connection: redis.Redis, place: str, keys: list[bytes]) -> list[bytes]:
    left = []
    for start in range(0, len(keys), ROWS_A_CALL):
        some = keys[start : start + ROWS_A_CALL]
        held = cast("list[bytes | None]", connection.hmget(place, cast(Any, some)))
        left += [key for key, value in zip(some, held, strict=True) if value is None]
    return left


def _prefix(config: RepoConfig) -> str:
    return f"feast:{{{config.project}}}:"


def _served(config: RepoConfig, view: FeatureView) -> str:
    return f"{_prefix(config)}rows:{compute_table_id(config.project, view)}"
