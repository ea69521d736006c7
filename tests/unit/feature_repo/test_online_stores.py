"""Our online stores against Feast's own: the same answers, and what Feast's does not do."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Int64List, Value
from feast.types import Array, Bool, Float64, Int64, String

from feature_repo.stores.redis import HEADER, NOT_CREATED, RedisUnavailableError, RowRedisOnlineStore
from feature_repo.stores.sqlite import RowSqliteOnlineStore

NOON = datetime(2011, 8, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CUSTOMER = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
PRODUCT = Entity(name="product", join_keys=["product_id"], value_type=ValueType.STRING)

KEY_FIELDS = [Field(name="customer_id", dtype=String), Field(name="product_id", dtype=String)]
FIELDS = [
    Field(name="count", dtype=Int64),
    Field(name="share", dtype=Float64),
    Field(name="text", dtype=String),
    Field(name="days", dtype=Array(Int64)),
    Field(name="flag", dtype=Bool),
]


def view_of(fields: list[Field], created: str = "") -> FeatureView:
    source = FileSource(path="none", timestamp_field="seen", created_timestamp_column=created)
    view = FeatureView(name="view", entities=[CUSTOMER, PRODUCT], schema=[*KEY_FIELDS, *fields], source=source)
    view.entity_columns, view.features = KEY_FIELDS, fields
    return view


VIEW = view_of(FIELDS)


SQLITE = "feature_repo.stores.sqlite.RowSqliteOnlineStore"
REDIS = "feature_repo.stores.redis.RowRedisOnlineStore"

OnlineStores = tuple[RowSqliteOnlineStore | RowRedisOnlineStore, RepoConfig]


def config(path: Path, kind: str, place: dict[str, str] | None = None) -> RepoConfig:
    return RepoConfig(
        project="test",
        provider="local",
        registry=str(path / "registry.db"),
        online_store={"type": kind, **(place or {"path": str(path / f"{kind.rsplit('.')[-1]}.db")})},
        materialization={"online_write_batch_size": 2},
        entity_key_serialization_version=3,
        repo_path=str(path),
    )


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis of this test run, on a socket: nobody else's port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server here (Debian: apt-get install redis-server)")
    folder = Path(tempfile.mkdtemp(prefix="redis-"))  # a socket's path must be short
    socket = folder / "socket"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    yield f"unix://{socket}?db=1"
    server.terminate()
    server.wait(20)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def in_sqlite(tmp_path: Path) -> OnlineStores:
    store, options = RowSqliteOnlineStore(), config(tmp_path, SQLITE)
    store.update(options, [], [VIEW], [], [], partial=False)
    return store, options


@pytest.fixture
def in_redis(tmp_path: Path, redis_server: str) -> OnlineStores:
    redis.Redis.from_url(redis_server).flushall()
    store, options = RowRedisOnlineStore(), config(tmp_path, REDIS, {"url": redis_server})
    store.update(options, [], [VIEW], [], [], partial=False)
    return store, options


@pytest.fixture(params=["sqlite", "redis"])
def ours(request: pytest.FixtureRequest) -> OnlineStores:
    """Each of our stores, empty."""
    found: OnlineStores = request.getfixturevalue(f"in_{request.param}")
    return found


@pytest.fixture
def feasts(tmp_path: Path) -> tuple[SqliteOnlineStore, RepoConfig]:
    store = SqliteOnlineStore()
    options = config(tmp_path, "sqlite")
    store.update(options, [], [VIEW], [], [], partial=False)
    return store, options


def key(customer: str, product: str = "p") -> EntityKey:
    values = [Value(string_val=customer), Value(string_val=product)]
    return EntityKey(join_keys=["customer_id", "product_id"], entity_values=values)


def values(number: int) -> dict[str, Value]:
    return {
        "count": Value(int64_val=2**53 + number),  # would not survive a float
        "share": Value(double_val=number / 3),
        "text": Value(string_val=f"größe {number}"),
        "days": Value(int64_list_val=Int64List(val=range(number))),
        "flag": Value() if number % 2 else Value(bool_val=True),
    }


def rows(*numbers: int, seen: datetime = NOON) -> list[tuple[EntityKey, dict[str, Value], datetime, None]]:
    return [(key(str(number)), values(number), seen, None) for number in numbers]


def test_answers_equal_feasts_own_store(ours: OnlineStores, feasts: tuple[SqliteOnlineStore, RepoConfig]) -> None:
    """Values of all kinds, missing ones, a second write, one feature alone, unknown and repeated keys."""
    asked = [key("2"), key("nobody"), key("1"), key("2"), key("1", "other")]
    answers = []
    for store, options in (ours, feasts):
        done: list[int] = []
        store.online_write_batch(options, VIEW, rows(1, 2, 3), done.append)
        store.online_write_batch(options, VIEW, [(key("2"), values(8), NOON + DAY, None)], None)
        store.online_write_batch(options, VIEW, [], None)
        assert sum(done) == 3
        some = store.online_read(options, VIEW, asked, [field.name for field in FIELDS])
        answers.append([(seen, None if found is None else dict(sorted(found.items()))) for seen, found in some])
    assert answers[0] == answers[1]
    assert answers[0][1] == (None, None)
    assert answers[0][0] == (NOON + DAY, dict(sorted(values(8).items())))


def test_one_feature_can_be_asked_for(ours: OnlineStores) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(4), None)
    assert store.online_read(options, VIEW, [key("4")], ["share"]) == [(NOON, {"share": values(4)["share"]})]
    assert store.online_read(options, VIEW, [key("4")]) == [(NOON, values(4))]


@pytest.mark.parametrize(
    ("which", "expected"), [("in_sqlite", 2), ("in_redis", 2), ("feasts", 1)], ids=["sqlite", "redis", "control"]
)
def test_an_old_day_never_replaces_a_newer_one(which: str, expected: int, request: pytest.FixtureRequest) -> None:
    """Feast's store keeps whatever comes last: the control shows that this test would notice."""
    store, options = request.getfixturevalue(which)
    store.online_write_batch(options, VIEW, [(key("a"), values(2), NOON + DAY, None)], None)
    store.online_write_batch(options, VIEW, [(key("a"), values(1), NOON, None)], None)
    [(_, found)] = store.online_read(options, VIEW, [key("a")])
    assert found["count"].int64_val == 2**53 + expected


def test_an_equal_time_replaces(ours: OnlineStores) -> None:
    store, options = ours
    for number in (1, 2):
        store.online_write_batch(options, VIEW, [(key("a"), values(number), NOON, None)], None)
    assert store.online_read(options, VIEW, [key("a")]) == [(NOON, values(2))]


def table(*numbers: int, created: bool = False) -> pa.Table:
    columns: dict[str, Any] = {
        "customer_id": [str(number) for number in numbers],
        "product_id": ["p"] * len(numbers),
        "count": [2**53 + number for number in numbers],
        "share": [number / 3 for number in numbers],
        "text": [f"größe {number}" for number in numbers],
        "days": pa.array([list(range(number)) for number in numbers], pa.list_(pa.int64())),
        "flag": pa.array([None if number % 2 else True for number in numbers], pa.bool_()),
        "seen": pa.array([NOON] * len(numbers), pa.timestamp("us", tz="UTC")),
    }
    if created:
        columns["known"] = pa.array([NOON + DAY] * len(numbers), pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


@pytest.mark.parametrize("created", [False, True])
def test_arrow_tables_are_written_as_rows_are(ours: OnlineStores, created: bool) -> None:
    """In batches of two, the last one smaller."""
    store, options = ours
    store.write_table(options, view_of(FIELDS, "known" if created else ""), table(0, 1, 2, 3, 4, created=created))
    read = store.online_read(options, VIEW, [key(str(number)) for number in range(5)])
    assert read == [(NOON, values(number)) for number in range(5)]
    assert created_times(store, options) == {int((NOON + DAY).timestamp() * 1e6) if created else None}


def created_times(store: Any, options: RepoConfig) -> set[int | None]:
    """As they are stored: Feast gives no way to read them."""
    if isinstance(store, RowSqliteOnlineStore):
        with store.transaction(options) as connection:
            return {time for (time,) in connection.execute("SELECT created_time FROM test_view")}
    rows = redis.Redis.from_url(options.online_store.url).hvals("feast:{test}:rows:test_view")
    times = {HEADER.unpack_from(row)[1] for row in rows}
    return {None if time == NOT_CREATED else time for time in times}


def test_missing_values_of_all_kinds_stay_missing(ours: OnlineStores) -> None:
    store, options = ours
    nothing = table(1)
    for field in FIELDS:
        place = nothing.column_names.index(field.name)
        nothing = nothing.set_column(place, field.name, pa.nulls(1, nothing.schema.field(field.name).type))
    store.write_table(options, VIEW, nothing)
    [(_, found)] = store.online_read(options, VIEW, [key("1")])
    assert found == {field.name: Value() for field in FIELDS}


def test_a_view_may_gain_features(ours: OnlineStores) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(1), None)
    more = {"new": Value(int64_val=5), **values(2)}
    store.online_write_batch(options, VIEW, [(key("2"), more, NOON, None)], None)
    assert store.online_read(options, VIEW, [key("1"), key("2")]) == [(NOON, values(1)), (NOON, more)]


def test_a_transaction_is_seen_whole_or_not_at_all(ours: OnlineStores) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(1), None)
    reader = type(store)()

    def fail_halfway() -> None:
        with store.transaction(options):
            store.prune(options, VIEW, None)
            store.online_write_batch(options, VIEW, rows(2, 3), None)
            store.note(options, "what", "half")
            assert store.count(options, VIEW) == 2
            assert reader.count(options, VIEW) == 1  # another connection still sees the old state
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_halfway()
    assert store.count(options, VIEW) == 1
    assert store.noted(options, "what") is None
    assert store.online_read(options, VIEW, [key("1")]) == [(NOON, values(1))]


def test_layouts_of_a_rolled_back_transaction_are_forgotten(ours: OnlineStores) -> None:
    """The next transaction may give their number to another layout."""
    store, options = ours

    def fail() -> None:
        with store.transaction(options):
            store.online_write_batch(options, VIEW, rows(1), None)
            store.online_read(options, VIEW, [key("1")])
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    other = {"other": Value(int64_val=1)}
    store.online_write_batch(options, VIEW, [(key("1"), other, NOON, None)], None)
    assert store.online_read(options, VIEW, [key("1")]) == [(NOON, other)]


def test_within_a_transaction_its_own_writes_are_read(ours: OnlineStores) -> None:
    """Rows changed, forgotten, pruned and written again, over served ones and after a view was emptied."""
    store, options = ours
    store.online_write_batch(options, VIEW, rows(1, 2, 3, 4), None)
    with store.transaction(options):
        assert store.delete(options, VIEW, [key("1"), key("2"), key("nobody")]) == 2
        assert store.delete(options, VIEW, [key("1")]) == 0
        store.online_write_batch(options, VIEW, [*rows(2, seen=NOON - DAY), *rows(3, 5, seen=NOON + DAY)], None)
        assert store.count(options, VIEW) == 4
        read = store.online_read(options, VIEW, [key(name) for name in "12345"])
        times = [None, NOON - DAY, NOON + DAY, NOON, NOON + DAY]
        assert [seen for seen, _ in read] == times
        assert store.prune(options, VIEW, NOON + DAY) == 2
        assert store.count(options, VIEW) == 2
        assert store.prune(options, VIEW, None) == 2
        assert store.count(options, VIEW) == 0
        store.online_write_batch(options, VIEW, rows(7, 8, seen=NOON - DAY), None)
        assert store.delete(options, VIEW, [key("7")]) == 1
        assert store.prune(options, VIEW, NOON - DAY) == 0
        assert store.online_read(options, VIEW, [key("3"), key("7")]) == [(None, None)] * 2
        store.note(options, "what", "within")
        assert store.noted(options, "what") == "within"
    assert store.count(options, VIEW) == 1
    assert store.online_read(options, VIEW, [key("8"), key("1")]) == [(NOON - DAY, values(8)), (None, None)]
    assert store.noted(options, "what") == "within"


def test_what_was_changed_over_served_rows_is_there_afterwards(ours: OnlineStores) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(1, 2, 3), None)
    with store.transaction(options):
        store.delete(options, VIEW, [key("1")])
        store.online_write_batch(options, VIEW, [(key("2"), values(9), NOON, None), *rows(4)], None)
    read = store.online_read(options, VIEW, [key(name) for name in "1234"])
    assert read == [(None, None), (NOON, values(9)), (NOON, values(3)), (NOON, values(4))]
    assert store.count(options, VIEW) == 3


@pytest.mark.parametrize("ours", ["redis"], indirect=True)
def test_a_writer_that_died_is_replaced_and_leaves_nothing_served(ours: OnlineStores) -> None:
    """SIGKILL in the middle: its connection is gone, so the next writer need not wait until the lock expires."""
    store, options = ours
    store.online_write_batch(options, VIEW, rows(1), None)
    code = f"""
import os, signal
from feature_repo.stores.redis import RowRedisOnlineStore
from tests.unit.feature_repo.test_online_stores import REDIS, VIEW, config, rows
from pathlib import Path
options = config(Path({str(options.repo_path)!r}), REDIS, {{"url": {options.online_store.url!r}}})
store = RowRedisOnlineStore()
with store.transaction(options):
    store.prune(options, VIEW, None)
    store.online_write_batch(options, VIEW, rows(2, 3), None)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert store.count(options, VIEW) == 1
    began = time.monotonic()
    store.online_write_batch(options, VIEW, rows(4), None)
    assert time.monotonic() - began < 10
    assert store.online_read(options, VIEW, [key("1"), key("2"), key("4")]) == [
        (NOON, values(1)),
        (None, None),
        (NOON, values(4)),
    ]
    beside = [name for name in redis.Redis.from_url(options.online_store.url).keys("feast:{test}:rows:*:*")]
    assert all(redis.Redis.from_url(options.online_store.url).ttl(name) > 0 for name in beside)


@pytest.mark.parametrize("ours", ["redis"], indirect=True)
def test_a_second_writer_waits_and_says_so_in_the_end(ours: OnlineStores, monkeypatch: pytest.MonkeyPatch) -> None:
    store, options = ours
    monkeypatch.setattr("feature_repo.stores.redis.WAIT_SECONDS", 0.2)
    other = RowRedisOnlineStore()
    with store.transaction(options), pytest.raises(RedisUnavailableError, match="another writer holds"):
        other.online_write_batch(options, VIEW, rows(1), None)
    other.online_write_batch(options, VIEW, rows(1), None)
    assert store.count(options, VIEW) == 1


@pytest.mark.parametrize("ours", ["redis"], indirect=True)
def test_a_writer_that_lost_its_lock_changes_nothing(ours: OnlineStores) -> None:
    store, options = ours

    def lose() -> None:
        with store.transaction(options):
            store.online_write_batch(options, VIEW, rows(1), None)
            redis.Redis.from_url(options.online_store.url).set("feast:{test}:lock", "somebody else")

    with pytest.raises(RedisUnavailableError, match="taken over"):
        lose()
    assert store.count(options, VIEW) == 0


@pytest.mark.parametrize("ours", ["redis"], indirect=True)
def test_readers_see_the_old_rows_or_the_new_ones(ours: OnlineStores) -> None:
    """While one writer replaces all rows again and again, no reader meets two generations in one answer."""
    store, options = ours
    numbers = [str(number) for number in range(40)]

    def generation(number: int) -> list[Any]:
        return [(key(name), values(number), NOON, None) for name in numbers]

    store.online_write_batch(options, VIEW, generation(0), None)
    done, met = threading.Event(), set()

    def read() -> None:
        reader = RowRedisOnlineStore()
        while not done.is_set():
            found = reader.online_read(options, VIEW, [key(name) for name in numbers], ["count"])
            met.add(frozenset(None if row is None else row["count"].int64_val for _, row in found))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 30):
        with store.transaction(options):
            if number % 2:
                store.prune(options, VIEW, None)
            store.online_write_batch(options, VIEW, generation(number), None)
    done.set()
    thread.join(20)
    assert len(met) > 2
    assert all(len(seen) == 1 and None not in seen for seen in met)


def test_forgetting(ours: OnlineStores) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, [*rows(1, 2, 3), *rows(4, 5, seen=NOON + DAY)], None)
    assert store.delete(options, VIEW, [key("1"), key("nobody")]) == 1
    assert store.prune(options, VIEW, NOON + DAY) == 2
    assert store.count(options, VIEW) == 2
    assert store.prune(options, VIEW, None) == 2
    store.note(options, "what", "first")
    store.note(options, "what", "second")
    assert store.noted(options, "what") == "second"


def test_many_keys_are_read_in_several_queries(ours: OnlineStores, monkeypatch: pytest.MonkeyPatch) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(*range(7)), None)
    monkeypatch.setattr("feature_repo.stores.sqlite.KEYS_A_QUERY", 3)
    monkeypatch.setattr("feature_repo.stores.redis.ROWS_A_CALL", 3)
    read = store.online_read(options, VIEW, [key(str(number)) for number in range(7)])
    assert read == [(NOON, values(number)) for number in range(7)]


@pytest.mark.parametrize("ours", ["sqlite"], indirect=True)
def test_tables_come_and_go(ours: OnlineStores) -> None:
    store, options = ours
    store.update(options, [VIEW], [], [], [], partial=False)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.count(options, VIEW)
    store.teardown(options, [], [])
    store.teardown(options, [], [])
    assert not Path(options.online_store.path).exists()


@pytest.mark.parametrize("ours", ["redis"], indirect=True)
def test_a_deleted_views_rows_go_and_teardown_leaves_nothing_of_the_project(ours: OnlineStores) -> None:
    store, options = ours
    client = redis.Redis.from_url(options.online_store.url)
    client.set("feast:{another}:lock", "stays")
    store.online_write_batch(options, VIEW, rows(1, 2), None)
    store.update(options, [VIEW], [], [], [], partial=False)
    assert store.count(options, VIEW) == 0
    store.online_write_batch(options, VIEW, rows(1, 2), None)
    store.note(options, "what", "this")
    store.teardown(options, [], [])
    assert client.keys() == [b"feast:{another}:lock"]


def test_a_relative_path_is_relative_to_the_repository(tmp_path: Path) -> None:
    options = config(tmp_path, SQLITE)
    options.online_store.path = "below/online.db"
    RowSqliteOnlineStore().update(options, [], [VIEW], [], [], partial=False)
    assert (tmp_path / "below" / "online.db").exists()
