"""The offline join against an oracle in plain Python, to the microsecond, over corrected versions and several views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Int64
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from evergreen.lake import Lake, begin, publish, seal, stage_days
from evergreen.lake.schemas import EVENT_DATE, TABLES, TIME, TableSpec, columns
from feature_repo.stores import delta
from feature_repo.stores.delta import DeltaSource

DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
YEAR = timedelta(days=364)
FIRST = date(2011, 1, 1)
START = datetime(2011, 1, 1, tzinfo=UTC)
TABLE = "sightings"
VIEWS = {"of_pair": ("customer_id", "product_id"), "of_customer": ("customer_id",)}


@dataclass(frozen=True)
class Sighting:
    """A row of history, seen within its day or at its end; created `late` after that, None: nobody knows when."""

    customer: str
    product: str
    day: int
    within: timedelta
    late: timedelta | None
    value: int

    @property
    def seen(self) -> datetime:
        return START + self.day * DAY + self.within

    @property
    def created(self) -> datetime | None:
        return None if self.late is None else self.seen + self.late

    def row(self) -> dict[str, Any]:
        keys = {"customer_id": self.customer, "product_id": self.product, "value": self.value}
        return keys | {"event_timestamp": self.seen, "created": self.created}


@dataclass(frozen=True)
class Label:
    """A label row."""

    customer: str | None
    product: str | None
    at: datetime


History = list[Sighting]

CUSTOMERS, PRODUCTS = ("a", "b"), ("x", "y")
SIGHTINGS = st.lists(
    st.builds(
        Sighting,
        st.sampled_from(CUSTOMERS),
        st.sampled_from(PRODUCTS),
        st.sampled_from([0, 1, 2, 200, 363, 364, 365, 366]),
        st.sampled_from([MICROSECOND, DAY / 2, DAY]),
        st.sampled_from([None, timedelta(0), MICROSECOND, DAY, 400 * DAY]),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=20,
    unique_by=(lambda one: (one.customer, one.seen, one.created), lambda one: one.value),  # else two answers are right
)
TTLS = st.sampled_from([None, DAY, YEAR])
OFFSETS = st.sampled_from([timedelta(0), DAY, YEAR, 400 * DAY])
STEPS = st.sampled_from([-MICROSECOND, timedelta(0), MICROSECOND])


@st.composite
def labels(draw: st.DrawFn, histories: tuple[History, ...]) -> list[Label]:
    """Label rows at the edges of what was seen: its time, creation, time to live; some twice, some unknown."""
    anchors = st.sampled_from([one for history in histories for one in history])
    made = []
    for _ in range(draw(st.integers(1, 15))):
        anchor = draw(anchors)
        customer = draw(st.sampled_from([anchor.customer, anchor.customer, "nobody", None]))
        product = draw(st.sampled_from([anchor.product, anchor.product, "nothing", None]))
        made.append(Label(customer, product, anchor.seen + draw(OFFSETS) + draw(STEPS)))
    return made + draw(st.lists(st.sampled_from(made), max_size=3))


@st.composite
def cases(draw: st.DrawFn) -> tuple[History, History, list[Label]]:
    """A history, what it was corrected to, and label rows."""
    first, second = draw(SIGHTINGS), draw(SIGHTINGS)
    return first, second, draw(labels((first, second)))


def oracle(history: History, asked: list[Label], keys: tuple[str, ...], ttl: timedelta | None, cut: bool) -> list[Any]:
    """Feast's documented semantics, one label row at a time; a row without a creation is never the newer one."""
    found = []
    for label in asked:
        able = [
            one
            for one in history
            if one.customer == label.customer
            and (len(keys) == 1 or one.product == label.product)
            and one.seen <= label.at
            and (ttl is None or label.at - one.seen <= ttl)
            and (not cut or (one.created is not None and one.created <= label.at))
        ]
        newest = max(able, key=lambda one: (one.seen, one.created is not None, one.created or one.seen), default=None)
        found.append(None if newest is None else newest.value)
    return found


@pytest.fixture(autouse=True)
def sightings(monkeypatch: pytest.MonkeyPatch) -> None:
    text, number = pa.string(), pa.int64()
    names = (
        ("customer_id", text),
        ("product_id", text),
        ("event_timestamp", TIME),
        ("created", TIME),
        ("value", number),
    )
    made = columns(*((name, kind, "What the tests join") for name, kind in names), EVENT_DATE)
    monkeypatch.setitem(TABLES, TABLE, TableSpec(TABLE, "What the tests join.", made, key=("value",)))


def write(root: Path, history: History) -> int:
    """Makes the history the table's whole content and gives the version."""
    lake, attempt = Lake(root / "lake"), uuid4().hex
    schema = TABLES[TABLE].file_schema
    by_day = groupby(sorted(history, key=lambda one: one.day), key=lambda one: one.day)
    days = [
        (FIRST + day * DAY, pa.Table.from_pylist([one.row() for one in rows], schema=schema)) for day, rows in by_day
    ]
    begin(lake, TABLE, attempt)
    stage_days(lake, TABLE, attempt, days)
    publish(lake, seal(lake, TABLE, attempt, start=FIRST, end=FIRST + 500 * DAY, transform="test"))
    version = lake.table(TABLE).version
    assert version is not None
    return version


def open_store(root: Path, ttls: dict[str, timedelta | None], version: int) -> FeatureStore:
    """A store with a view of pairs and a view of customers over the same table."""
    offline = {"type": "feature_repo.stores.delta.DeltaOfflineStore", "lake": str(root / "lake"), "threads": 1}
    config = RepoConfig(
        project="test",
        provider="local",
        registry={"registry_type": "file", "path": str(root / f"{uuid4().hex}.db")},
        online_store={"type": "sqlite", "path": str(root / "online.db")},
        offline_store=offline | {"versions": {TABLE: version}},
        entity_key_serialization_version=3,
    )
    entities = {
        key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING) for key in ("customer_id", "product_id")
    }
    views = [
        FeatureView(
            name=name,
            entities=[entities[key] for key in keys],
            ttl=ttls[name] or timedelta(0),
            schema=[Field(name="value", dtype=Int64)],
            source=DeltaSource(table=TABLE, name=f"{name}_source", created_timestamp_column="created"),
        )
        for name, keys in VIEWS.items()
    ]
    store = FeatureStore(config=config)
    store.apply([*entities.values(), *views])
    return store


def join(store: FeatureStore, asked: list[Label], cut: bool) -> dict[str, list[Any]]:
    frame = pd.DataFrame(
        {
            "customer_id": pd.Series([one.customer for one in asked], dtype=object),
            "product_id": pd.Series([one.product for one in asked], dtype=object),
            "event_timestamp": pd.Series([one.at for one in asked], dtype="datetime64[us, UTC]"),
            "label": range(len(asked)),
        }
    ).set_index(pd.Index([7] * len(asked)))  # an index says nothing
    references = [f"{name}:value" for name in VIEWS]
    found = store.get_historical_features(
        frame, references, full_feature_names=True, filter_by_created_timestamp=cut
    ).to_arrow()
    assert found["label"].to_pylist() == frame["label"].tolist()  # rows out = rows in, in their order
    assert found["customer_id"].to_pylist() == frame["customer_id"].tolist()
    return {name: found[f"{name}__value"].to_pylist() for name in VIEWS}


def expected(
    history: History, asked: list[Label], ttls: dict[str, timedelta | None], cut: bool
) -> dict[str, list[Any]]:
    return {name: oracle(history, asked, keys, ttls[name], cut) for name, keys in VIEWS.items()}


EDGE = Sighting("a", "x", 0, DAY, MICROSECOND, 1)
EDGES = [
    Label("a", "x", EDGE.seen + step) for step in (-MICROSECOND, timedelta(0), MICROSECOND, YEAR, YEAR + MICROSECOND)
]
TIED = [EDGE, Sighting("a", "y", 0, DAY, timedelta(0), 2), Sighting("a", "y", 0, DAY, None, 3)]


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=cases(), of_pair=TTLS, of_customer=TTLS, cut=st.booleans())
@example(case=([EDGE], TIED, EDGES), of_pair=YEAR, of_customer=YEAR, cut=False)
@example(case=([EDGE], TIED, EDGES), of_pair=YEAR, of_customer=None, cut=True)
def test_the_join_equals_the_oracle_at_every_version(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[History, History, list[Label]],
    of_pair: timedelta | None,
    of_customer: timedelta | None,
    cut: bool,
) -> None:
    """Time to live to the microsecond (364 days too), ties, gaps, late, corrected and undated rows, missing keys."""
    root = tmp_path_factory.mktemp("join")
    first, second, asked = case
    ttls = {"of_pair": of_pair, "of_customer": of_customer}
    for history, version in [(history, write(root, history)) for history in (first, second)]:
        assert join(open_store(root, ttls, version), asked, cut) == expected(history, asked, ttls, cut)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("cut", "old", "new"),
    [
        pytest.param(False, "", "", id="ours"),
        pytest.param(True, "", "", id="ours, created cut-off"),
        pytest.param(False, "<= 31449600000000", "< 31449600000000", id="time to live exclusive"),
        pytest.param(False, ">= rows.__seen", "> rows.__seen", id="a row is not yet seen at its own time"),
        pytest.param(False, "__created DESC", "__created ASC", id="the older of two tied rows"),
        pytest.param(True, "rows.__created <= labels.__at", "true", id="rows from the future"),
        pytest.param(True, "__seen DESC, __created DESC", "__created DESC", id="newest by creation"),
    ],
)
def test_a_wrong_join_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool, old: str, new: str
) -> None:
    """The property above would be worth nothing if the oracle agreed with these."""
    touched = []

    def changing(made: Callable[..., str]) -> Callable[..., str]:
        def make(*arguments: Any, **keywords: Any) -> str:
            query = made(*arguments, **keywords)
            touched.append(bool(old) and old in query)
            return query.replace(old, new) if old else query

        return make

    monkeypatch.setattr(delta, "_select", changing(delta._select))
    for name in ("_newest", "_newest_created_by_then"):
        monkeypatch.setattr(delta._ViewJoin, name, changing(getattr(delta._ViewJoin, name)))
    ttls: dict[str, timedelta | None] = dict.fromkeys(VIEWS, YEAR)
    late = Sighting("a", "x", 1, DAY, 400 * DAY, 4)
    early_but_late = Sighting("a", "x", 2, DAY, timedelta(0), 5), Sighting("a", "x", 1, DAY / 2, 2 * DAY, 6)
    history = [*TIED, late, *early_but_late]
    asked = [*EDGES, *(Label("a", "x", EDGE.seen + days * DAY) for days in (1, 2, 3, 4, 366))]
    store = open_store(tmp_path, ttls, write(tmp_path, history))
    same = join(store, asked, cut) == expected(history, asked, ttls, cut)
    assert same == (not old)
    assert any(touched) == bool(old)
