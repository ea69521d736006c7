"""Our online store against Feast's own: the same answers, and what Feast's does not do."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Int64List, Value
from feast.types import Array, Bool, Float64, Int64, String

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


def config(path: Path, kind: str) -> RepoConfig:
    return RepoConfig(
        project="test",
        provider="local",
        registry=str(path / "registry.db"),
        online_store={"type": kind, "path": str(path / f"{kind.rsplit('.')[-1]}.db")},
        materialization={"online_write_batch_size": 2},
        entity_key_serialization_version=3,
        repo_path=str(path),
    )


@pytest.fixture
def ours(tmp_path: Path) -> tuple[RowSqliteOnlineStore, RepoConfig]:
    store = RowSqliteOnlineStore()
    options = config(tmp_path, "feature_repo.stores.sqlite.RowSqliteOnlineStore")
    store.update(options, [], [VIEW], [], [], partial=False)
    return store, options


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


def test_answers_equal_feasts_own_store(
    ours: tuple[RowSqliteOnlineStore, RepoConfig], feasts: tuple[SqliteOnlineStore, RepoConfig]
) -> None:
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


def test_one_feature_can_be_asked_for(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(4), None)
    assert store.online_read(options, VIEW, [key("4")], ["share"]) == [(NOON, {"share": values(4)["share"]})]
    assert store.online_read(options, VIEW, [key("4")]) == [(NOON, values(4))]


@pytest.mark.parametrize(("which", "expected"), [("ours", 2), ("feasts", 1)], ids=["ours", "control"])
def test_an_old_day_never_replaces_a_newer_one(which: str, expected: int, request: pytest.FixtureRequest) -> None:
    """Feast's store keeps whatever comes last: the control shows that this test would notice."""
    store, options = request.getfixturevalue(which)
    store.online_write_batch(options, VIEW, [(key("a"), values(2), NOON + DAY, None)], None)
    store.online_write_batch(options, VIEW, [(key("a"), values(1), NOON, None)], None)
    [(_, found)] = store.online_read(options, VIEW, [key("a")])
    assert found["count"].int64_val == 2**53 + expected


def test_an_equal_time_replaces(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
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
def test_arrow_tables_are_written_as_rows_are(ours: tuple[RowSqliteOnlineStore, RepoConfig], created: bool) -> None:
    """In batches of two, the last one smaller."""
    store, options = ours
    store.write_table(options, view_of(FIELDS, "known" if created else ""), table(0, 1, 2, 3, 4, created=created))
    read = store.online_read(options, VIEW, [key(str(number)) for number in range(5)])
    assert read == [(NOON, values(number)) for number in range(5)]
    with store.transaction(options) as connection:
        known = connection.execute("SELECT DISTINCT created_time FROM test_view").fetchall()
    assert known == [(int((NOON + DAY).timestamp() * 1e6) if created else None,)]


def test_missing_values_of_all_kinds_stay_missing(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
    store, options = ours
    nothing = table(1)
    for field in FIELDS:
        place = nothing.column_names.index(field.name)
        nothing = nothing.set_column(place, field.name, pa.nulls(1, nothing.schema.field(field.name).type))
    store.write_table(options, VIEW, nothing)
    [(_, found)] = store.online_read(options, VIEW, [key("1")])
    assert found == {field.name: Value() for field in FIELDS}


def test_a_view_may_gain_features(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(1), None)
    more = {"new": Value(int64_val=5), **values(2)}
    store.online_write_batch(options, VIEW, [(key("2"), more, NOON, None)], None)
    assert store.online_read(options, VIEW, [key("1"), key("2")]) == [(NOON, values(1)), (NOON, more)]


def test_a_transaction_is_seen_whole_or_not_at_all(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(1), None)
    reader = RowSqliteOnlineStore()

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


def test_layouts_of_a_rolled_back_transaction_are_forgotten(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
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


def test_forgetting(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, [*rows(1, 2, 3), *rows(4, 5, seen=NOON + DAY)], None)
    assert store.delete(options, VIEW, [key("1"), key("nobody")]) == 1
    assert store.prune(options, VIEW, NOON + DAY) == 2
    assert store.count(options, VIEW) == 2
    assert store.prune(options, VIEW, None) == 2
    store.note(options, "what", "first")
    store.note(options, "what", "second")
    assert store.noted(options, "what") == "second"


def test_many_keys_are_read_in_several_queries(
    ours: tuple[RowSqliteOnlineStore, RepoConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, options = ours
    store.online_write_batch(options, VIEW, rows(*range(7)), None)
    monkeypatch.setattr("feature_repo.stores.sqlite.KEYS_A_QUERY", 3)
    read = store.online_read(options, VIEW, [key(str(number)) for number in range(7)])
    assert read == [(NOON, values(number)) for number in range(7)]


def test_tables_come_and_go(ours: tuple[RowSqliteOnlineStore, RepoConfig]) -> None:
    store, options = ours
    store.update(options, [VIEW], [], [], [], partial=False)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.count(options, VIEW)
    store.teardown(options, [], [])
    store.teardown(options, [], [])
    assert not Path(options.online_store.path).exists()


def test_a_relative_path_is_relative_to_the_repository(tmp_path: Path) -> None:
    options = config(tmp_path, "feature_repo.stores.sqlite.RowSqliteOnlineStore")
    options.online_store.path = "below/online.db"
    RowSqliteOnlineStore().update(options, [], [VIEW], [], [], partial=False)
    assert (tmp_path / "below" / "online.db").exists()
