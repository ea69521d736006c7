"""The offline join against a naive oracle, on tiny Delta tables that were made through the lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.data_source import DataSource
from feast.types import Array, Int64
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from evergreen.errors import FeatureStoreError, LakeError
from evergreen.lake import Lake, begin, publish, seal, stage_days
from evergreen.lake.schemas import EVENT_DATE, TABLES, TIME, TableSpec, columns
from feature_repo.stores import delta
from feature_repo.stores.delta import DeltaOfflineStore, DeltaSource

DAY = timedelta(days=1)
FIRST = date(2011, 1, 1)
START = datetime(2011, 1, 1, tzinfo=UTC)

OBSERVATIONS = TableSpec(
    "observations",
    "What the tests join.",
    columns(
        ("customer_id", pa.string(), "Key"),
        ("product_id", pa.string(), "Key"),
        ("event_timestamp", TIME, "When it is seen"),
        ("created", TIME, "When it was written"),
        ("value", pa.int64(), "A number that names the row"),
        ("days", pa.list_(pa.int64()), "A list"),
        EVENT_DATE,
    ),
    key=("value",),
)

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def observations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "observations", OBSERVATIONS)


def row(day: int, customer: str, product: str, value: int, late_hours: int = 0) -> Row:
    """An observation of a day, seen from the next midnight on, written `late_hours` after that."""
    seen = START + (day + 1) * DAY
    return {
        "customer_id": customer,
        "product_id": product,
        "event_timestamp": seen,
        "created": seen + timedelta(hours=late_hours),
        "value": value,
        "days": list(range(value % 3)),
        "day": FIRST + day * DAY,
    }


def write(lake: Lake, rows: list[Row], days: int = 40) -> int:
    """Publishes rows as the table's whole content; gives the version."""
    attempt = uuid4().hex
    begin(lake, "observations", attempt)
    by_day = sorted({row["day"] for row in rows})
    schema = OBSERVATIONS.file_schema
    stage_days(
        lake,
        "observations",
        attempt,
        ((day, pa.Table.from_pylist([row for row in rows if row["day"] == day], schema=schema)) for day in by_day),
    )
    publish(lake, seal(lake, "observations", attempt, start=FIRST, end=FIRST + days * DAY, transform="test"))
    version = lake.table("observations").version
    assert version is not None
    return version


def open_store(
    root: Path, *, ttl: timedelta | None = None, created: bool = True, versions: dict[str, int] | None = None
) -> FeatureStore:
    config = RepoConfig(
        project="test",
        provider="local",
        registry={"registry_type": "file", "path": str(root / f"{uuid4().hex}.db")},
        online_store={"type": "feature_repo.stores.sqlite.RowSqliteOnlineStore", "path": str(root / "online.db")},
        offline_store={
            "type": "feature_repo.stores.delta.DeltaOfflineStore",
            "lake": str(root / "lake"),
            "versions": versions or {},
            "threads": 1,
        },
        entity_key_serialization_version=3,
    )
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    product = Entity(name="product", join_keys=["product_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="seen",
        entities=[customer, product],
        ttl=ttl or timedelta(0),
        schema=[Field(name="value", dtype=Int64), Field(name="days", dtype=Array(Int64))],
        source=DeltaSource(table="observations", created_timestamp_column="created" if created else ""),
    )
    store = FeatureStore(config=config)
    store.apply([customer, product, view])
    return store


def labels(*entries: tuple[str | None, str | None, float]) -> pd.DataFrame:
    """Label rows from (customer, product, days since the first midnight)."""
    return pd.DataFrame(
        {
            "customer_id": [entry[0] for entry in entries],
            "product_id": [entry[1] for entry in entries],
            "event_timestamp": pd.to_datetime([START + entry[2] * DAY for entry in entries], utc=True),
        }
    )


def join(store: FeatureStore, frame: pd.DataFrame, **options: Any) -> list[int | None]:
    found = store.get_historical_features(frame, ["seen:value", "seen:days"], **options).to_arrow()
    assert found.num_rows == len(frame)
    assert found["customer_id"].to_pylist() == frame["customer_id"].tolist()
    values = found["value"].to_pylist()
    assert found["days"].to_pylist() == [None if value is None else list(range(value % 3)) for value in values]
    return values


def oracle(rows: list[Row], frame: pd.DataFrame, ttl: timedelta | None, cut: bool) -> list[int | None]:
    """Feast's documented semantics, one label row at a time."""
    found = []
    for label in frame.itertuples():
        at = label.event_timestamp
        able = [
            row
            for row in rows
            if (row["customer_id"], row["product_id"]) == (label.customer_id, label.product_id)
            and row["event_timestamp"] <= at
            and (ttl is None or at - row["event_timestamp"] <= ttl)
            and (not cut or row["created"] <= at)
        ]
        newest = max(able, key=lambda row: (row["event_timestamp"], row["created"]), default=None)
        found.append(None if newest is None else newest["value"])
    return found


KEYS = st.sampled_from(["a", "b"])
OBSERVED = st.lists(
    st.tuples(st.integers(0, 12), KEYS, KEYS, st.integers(0, 96)),
    max_size=25,
    unique_by=lambda entry: entry,  # rows of one key and day differ in when they were written
)
ASKED = st.lists(
    st.tuples(st.sampled_from(["a", "b", "nobody", None]), KEYS, st.integers(0, 4 * 18).map(lambda q: q / 4)),
    min_size=1,
    max_size=20,
)
TTLS = st.sampled_from([None, timedelta(hours=12), DAY, 3 * DAY])


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(observed=OBSERVED, asked=ASKED, ttl=TTLS, cut=st.booleans())
def test_join_equals_the_oracle(
    tmp_path_factory: pytest.TempPathFactory,
    observed: list[tuple[int, str, str, int]],
    asked: list[tuple[str | None, str | None, float]],
    ttl: timedelta | None,
    cut: bool,
) -> None:
    """TTL edges, ties, gaps, late rows, missing keys, duplicate label rows, in whatever order."""
    root = tmp_path_factory.mktemp("join")
    rows = [row(day, customer, product, n, late) for n, (day, customer, product, late) in enumerate(observed)]
    if rows:
        write(Lake(root / "lake"), rows)
    frame = labels(*asked, asked[0])
    store = open_store(root, ttl=ttl)
    assert join(store, frame, filter_by_created_timestamp=cut) == oracle(rows, frame, ttl, cut)


@pytest.mark.parametrize(
    ("days_later", "expected"), [(2.75, None), (3, 7), (6, 7), (6.01, None)], ids=["before", "seen", "at ttl", "after"]
)
def test_ttl_is_inclusive(tmp_path: Path, lake_of: Lake, days_later: float, expected: int | None) -> None:
    write(lake_of, [row(2, "a", "b", 7)])
    assert join(open_store(tmp_path, ttl=3 * DAY), labels(("a", "b", days_later))) == [expected]


def test_versions_are_pinned_and_replaced_files_are_not_read(tmp_path: Path, lake_of: Lake) -> None:
    first = write(lake_of, [row(1, "a", "b", 1), row(5, "a", "b", 5)])
    second = write(lake_of, [row(1, "a", "b", 2)])
    frame = labels(("a", "b", 9))
    assert join(open_store(tmp_path, versions={"observations": first}), frame) == [5]
    assert join(open_store(tmp_path, versions={"observations": second}), frame) == [2]
    assert join(open_store(tmp_path), frame) == [2]
    with pytest.raises(LakeError, match="has no version 9"):
        join(open_store(tmp_path, versions={"observations": 9}), frame)


def test_only_files_of_days_in_reach_are_read(tmp_path: Path, lake_of: Lake) -> None:
    """A join as of one day with a TTL must not open all of history."""
    write(lake_of, [row(day, "a", "b", day) for day in range(30)])
    for file in lake_of.table("observations").files:
        if file.day > FIRST + 12 * DAY or file.day < FIRST + 6 * DAY:
            (lake_of.table("observations").root / file.path).unlink()
    assert join(open_store(tmp_path, ttl=2 * DAY), labels(("a", "b", 10), ("a", "b", 12))) == [9, 11]


def test_names_can_be_full_and_keys_mapped(tmp_path: Path, lake_of: Lake) -> None:
    write(lake_of, [row(1, "a", "b", 3)])
    store = open_store(tmp_path)
    full = store.get_historical_features(labels(("a", "b", 5)), ["seen:value"], full_feature_names=True)
    assert full.to_df()["seen__value"].tolist() == [3]
    assert full.metadata is not None
    assert full.metadata.keys == ["customer_id", "product_id"]


def test_times_without_a_zone_are_utc_and_missing_ones_are_refused(tmp_path: Path, lake_of: Lake) -> None:
    write(lake_of, [row(1, "a", "b", 3)])
    store = open_store(tmp_path, ttl=DAY)
    frame = labels(("a", "b", 2), ("a", "b", 3.5))
    frame["event_timestamp"] = frame["event_timestamp"].dt.tz_localize(None)
    assert join(store, frame) == [3, None]
    frame.loc[0, "event_timestamp"] = pd.NaT
    with pytest.raises(FeatureStoreError, match="1 of 2 label rows have no time in column 'event_timestamp'"):
        join(store, frame)
    with pytest.raises(FeatureStoreError, match="entity_df is str, must be a data frame"):
        store.get_historical_features("SELECT 1", ["seen:value"])


def test_a_lost_row_is_an_error(tmp_path: Path, lake_of: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    write(lake_of, [row(1, "a", "b", 3)])
    own = delta._ViewJoin._newest

    def twice(view: Any, rows: str) -> str:
        return own(view, f"FROM ({rows}) UNION ALL FROM ({rows})").replace("ASOF", "")

    monkeypatch.setattr(delta._ViewJoin, "_newest", twice)
    with pytest.raises(FeatureStoreError, match="observations: 1 label rows went into the join, 2 came out"):
        join(open_store(tmp_path), labels(("a", "b", 5)))


@pytest.mark.parametrize("created", [True, False])
def test_pulls(tmp_path: Path, lake_of: Lake, created: bool) -> None:
    rows = [row(1, "a", "b", 1), row(3, "a", "b", 2), row(3, "c", "b", 3), row(6, "a", "b", 4)]
    rows += [row(3, "c", "b", 5, late_hours=9)] if created else []
    write(lake_of, rows)
    store = open_store(tmp_path, created=created)
    source = store.get_feature_view("seen").batch_source
    keys, names = ["customer_id", "product_id"], ["value", "days"]
    between = (START + 2 * DAY, START + 4 * DAY)
    created_column = source.created_timestamp_column
    latest = DeltaOfflineStore.pull_latest_from_table_or_query(
        store.config, source, keys, names, "event_timestamp", created_column, *between
    ).to_arrow()
    assert sorted(latest["value"].to_pylist()) == [2, 5 if created else 3]
    assert {len(column.chunks) for column in latest.columns} == {1}
    assert latest.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")
    assert set(latest.column_names) == {*keys, *names, "event_timestamp", *(["created"] if created else [])}
    everything = DeltaOfflineStore.pull_all_from_table_or_query(
        store.config, source, keys, names, "event_timestamp", created_column
    ).to_df()
    assert sorted(everything["value"]) == sorted(row["value"] for row in rows)


def test_source_survives_its_proto() -> None:
    source = DeltaSource(
        table="observations",
        name="other name",
        created_timestamp_column="created",
        field_mapping={"value": "renamed"},
        description="what it is",
        owner="somebody",
        tags={"grain": "row"},
    )
    again = DataSource.from_proto(source.to_proto())
    assert again == source
    assert hash(again) == hash(source)
    assert again != DeltaSource(table="transactions", name="other name")


def test_source_names_its_columns_and_refuses_an_unknown_table(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    source = DeltaSource(table="observations")
    assert ("days", "list<item: int64>") in [
        (name, kind.replace("element", "item")) for name, kind in source.get_table_column_names_and_types(store.config)
    ]
    assert source.get_table_query_string() == "observations"
    assert source.source_datatype_to_feast_value_type()("int64") == ValueType.INT64
    with pytest.raises(LakeError, match="table 'nowhere' is unknown"):
        DeltaSource(table="nowhere").validate(store.config)


def test_other_sources_are_refused(tmp_path: Path) -> None:
    from feast import FileSource

    other = FileSource(path=str(tmp_path / "x.parquet"), timestamp_field="event_timestamp")
    store = open_store(tmp_path)
    with pytest.raises(FeatureStoreError, match="is FileSource, must be a DeltaSource"):
        DeltaOfflineStore.pull_all_from_table_or_query(store.config, other, [], [], "event_timestamp")


def test_duckdb_never_downloads_an_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its defaults DuckDB loads what a query needs from the network; ours says that it is missing."""
    opened: list[dict[str, Any]] = []
    connect: Callable[..., Any] = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda **options: opened.append(options["config"]) or connect(**options))
    with delta._connect(open_store(tmp_path).config) as connection:
        settings = connection.sql(
            "SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%_known_extensions' OR name = 'threads'"
        ).fetchall()
    assert dict(settings) == {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "threads": "1",
    }
    assert opened[0]["memory_limit"] == "2.0GiB"


@pytest.fixture
def lake_of(tmp_path: Path) -> Lake:
    """The lake that `open_store(tmp_path)` reads."""
    return Lake(tmp_path / "lake")
