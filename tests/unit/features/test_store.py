"""Feast over tiny feature tables: offline, online, plain NumPy and Spark give the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from evergreen.errors import FeatureStoreError
from evergreen.features import relative, store
from evergreen.features.materialize import materialize
from evergreen.features.registry import FEATURES
from evergreen.lake import Lake, Release
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS
from evergreen.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = timedelta(days=1)
NEWEST = date(2011, 8, 31)
AS_OF = NEWEST + DAY
EARLIER = date(2011, 8, 4)
NAMES = [feature.name for feature in FEATURES]

Publish = Callable[..., Release]

PURCHASES = [
    (date(2010, 8, 1), "c1", "p1", 2),
    (date(2010, 9, 1), "c1", "p2", 1),  # active as of AS_OF for the last time
    (date(2010, 8, 31), "c2", "p2", 1),  # a day too old
    (date(2011, 7, 7), "c1", "p1", 5),
    (date(2011, 8, 3), "c2", "p1", 4),
    (date(2011, 8, 20), "c1", "p1", 3),
    (NEWEST, "c3", "p3", 7),
]

PAIRS = pd.DataFrame(
    {
        "customer_id": ["c1", "c1", "c2", "c2", "c3", "c3", "nobody", "c1"],
        "product_id": ["p1", "p2", "p2", "p1", "p3", "p1", "p1", "p1"],
    }
)


@pytest.fixture
def published(publish_features: Publish) -> Release:
    return publish_features(PURCHASES, NEWEST, EARLIER)


def entities(*as_ofs: date) -> pd.DataFrame:
    """Every pair of PAIRS for every date, dates interleaved."""
    frame = PAIRS.loc[PAIRS.index.repeat(len(as_ofs))].reset_index(drop=True)
    return frame.assign(as_of=list(as_ofs) * len(PAIRS))


def stored(lake: Lake, pairs: pd.DataFrame) -> dict[str, list[Any]]:
    """Stored columns of each row of `pairs`, found by looking at all rows: the oracle of every join."""
    tables = {
        "pair_features": (PAIR_COLUMNS, ["customer_id", "product_id"], 365),
        "customer_features": (CUSTOMER_COLUMNS, ["customer_id"], 1),
        "product_features": (PRODUCT_COLUMNS, ["product_id"], 1),
    }
    found: dict[str, list[Any]] = {}
    for name, (columns, keys, days) in tables.items():
        rows = lake.table(name).read().to_pylist()
        newest: list[dict[str, Any]] = []
        for pair in pairs.to_dict("records"):
            mine = [
                row
                for row in rows
                if all(row[key] == pair[key] for key in keys)
                and pair["as_of"] - days * DAY <= row["event_date"] < pair["as_of"]
            ]
            newest.append(max(mine, key=lambda row: row["event_date"], default={}))
        found |= {column.name: [row.get(column.name) for row in newest] for column in columns}
    return found


def plain(lake: Lake, pairs: pd.DataFrame) -> pd.DataFrame:
    as_of_day = [(as_of - date(1970, 1, 1)).days for as_of in pairs["as_of"]]
    return pd.DataFrame(relative.features(stored(lake, pairs), as_of_day))


def assert_same_bytes(left: pd.DataFrame, right: pd.DataFrame) -> None:
    assert list(left[NAMES]) == list(right[NAMES])
    for feature in FEATURES:
        one, other = left[feature.name].to_numpy(), right[feature.name].to_numpy()
        if feature.kind == "string":
            assert one.tolist() == other.tolist(), feature.name
        else:
            assert one.astype(np.float64).tobytes() == other.astype(np.float64).tobytes(), feature.name


def test_offline_equals_plain_numpy(settings: Settings, lake: Lake, published: Release) -> None:
    """Rows out = rows in, in their order, over several dates; duplicates and unknown pairs stay."""
    asked = entities(AS_OF, EARLIER)
    found = store.historical_features(settings, published.versions, asked)
    assert list(found.columns) == ["customer_id", "product_id", "as_of", *NAMES]
    pd.testing.assert_frame_equal(found[["customer_id", "product_id", "as_of"]], asked)
    assert_same_bytes(found, plain(lake, asked))
    by_pair = (
        found.drop_duplicates(["customer_id", "product_id", "as_of"])
        .set_index(["customer_id", "product_id", "as_of"])["pair_recency_days"]
        .to_dict()
    )
    assert by_pair[("c1", "p2", AS_OF)] == 365  # the time to live is inclusive
    assert np.isnan(by_pair[("c2", "p2", AS_OF)])
    assert by_pair[("c2", "p2", EARLIER)] == 338
    assert np.isnan(by_pair[("c3", "p3", EARLIER)])  # not bought yet


def test_no_pairs_give_no_rows(settings: Settings, published: Release) -> None:
    found = store.historical_features(settings, published.versions, entities(AS_OF).iloc[:0])
    assert list(found.columns) == ["customer_id", "product_id", "as_of", *NAMES]
    assert len(found) == 0


def test_four_ways_give_the_same_bytes(
    settings: Settings, lake: Lake, published: Release, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark, Feast offline, Feast online and plain NumPy."""
    materialize(settings, published)
    asked = entities(AS_OF)
    oracle = plain(lake, asked)
    assert_same_bytes(store.historical_features(settings, published.versions, asked), oracle)
    assert_same_bytes(store.online_features(settings, PAIRS, AS_OF), oracle)

    kinds = {"int64": "bigint", "float64": "double", "string": "string", "list<int64>": "array<bigint>"}
    columns = [*PAIR_COLUMNS, *CUSTOMER_COLUMNS, *PRODUCT_COLUMNS]
    schema = ", ".join([*(f"{c.name} {kinds[c.kind]}" for c in columns), "as_of_day bigint", "place bigint"])
    as_of_day = (AS_OF - date(1970, 1, 1)).days
    records = [(*row, as_of_day, place) for place, row in enumerate(zip(*stored(lake, asked).values(), strict=True))]

    def compute(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            made = relative.features({name: batch[name] for name in batch}, batch["as_of_day"])
            yield pd.DataFrame(made).assign(place=batch["place"].to_numpy())

    # Spark's workers are processes of their own and do not see what pytest put on the path.
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONPATH", os.pathsep.join(sys.path))
    made = ", ".join([*(f"{f.name} {kinds[f.kind]}" for f in FEATURES), "place bigint"])
    by_spark = spark.createDataFrame(records, schema).repartition(3).mapInPandas(compute, made).toPandas()
    assert_same_bytes(by_spark.sort_values("place").reset_index(drop=True), oracle)


def test_a_purchase_at_as_of_or_later_changes_nothing(
    settings: Settings, publish_features: Publish, published: Release
) -> None:
    asked = entities(EARLIER)
    before = store.historical_features(settings, published.versions, asked)
    planted = [*PURCHASES, (EARLIER, "c1", "p2", 50), (EARLIER + DAY, "c2", "p1", 60)]
    after = publish_features(planted, NEWEST, EARLIER)
    assert after.versions != published.versions
    assert_same_bytes(before, store.historical_features(settings, after.versions, asked))
    control = publish_features([*PURCHASES, (EARLIER - DAY, "c1", "p2", 50)], NEWEST, EARLIER)
    with pytest.raises(AssertionError):
        assert_same_bytes(before, store.historical_features(settings, control.versions, asked))


def test_older_versions_stay_readable(settings: Settings, publish_features: Publish, published: Release) -> None:
    asked = entities(AS_OF)
    before = store.historical_features(settings, published.versions, asked)
    publish_features([(NEWEST, "c1", "p1", 1)], NEWEST)
    assert_same_bytes(before, store.historical_features(settings, published.versions, asked))


def test_online_refuses_another_date(settings: Settings, published: Release) -> None:
    with pytest.raises(FeatureStoreError, match="the online store holds nothing, asked for 2011-09-01"):
        store.online_features(settings, PAIRS, AS_OF)
    materialize(settings, published)
    assert len(store.online_features(settings, PAIRS, AS_OF)) == len(PAIRS)
    assert len(store.online_features(settings, PAIRS.iloc[:0], AS_OF)) == 0
    for other in (NEWEST, AS_OF + DAY):
        with pytest.raises(FeatureStoreError, match=f"holds features as of 2011-09-01, asked for {other}"):
            store.online_features(settings, PAIRS, other)


def test_services_are_versioned(settings: Settings, published: Release) -> None:
    asked = entities(AS_OF)
    newest = store.historical_features(settings, published.versions, asked, "buy_again")
    assert_same_bytes(newest, store.historical_features(settings, published.versions, asked, "buy_again_v1"))
    profile = store.historical_features(settings, published.versions, asked, "profile")
    assert list(profile.columns[3:])[:2] == ["user_segment", "purchase_frequency_tier"]
    with pytest.raises(
        FeatureStoreError, match="feature service 'buy' is unknown, must be one of: buy_again_v1, profile_v1"
    ):
        store.historical_features(settings, published.versions, asked, "buy")


def test_everything_registered_says_whose_and_what_it_is(settings: Settings) -> None:
    store.apply(settings)
    feast = store.feature_store(settings)
    views = [*feast.list_feature_views(), *feast.list_on_demand_feature_views()]
    assert {view.name for view in views} == {*store.VIEWS, "buy_again_features"}
    for thing in [*views, *feast.list_feature_services(), *feast.list_entities()]:
        assert thing.owner, thing.name
        assert thing.description, thing.name
        assert thing.tags, thing.name
    for thing in [*views, *feast.list_feature_services()]:
        assert thing.tags["version"] == "1"
    assert feast.get_feature_view("pair_state").ttl == 364 * DAY
    columns = {"pair_state": PAIR_COLUMNS, "customer_state": CUSTOMER_COLUMNS, "product_state": PRODUCT_COLUMNS}
    for name, expected in columns.items():
        assert [field.name for field in feast.get_feature_view(name).features] == [column.name for column in expected]


def test_apply_does_nothing_twice(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.apply(settings)
    assert not store.apply(settings)
    script = (
        "import sys; from evergreen.features.store import apply; from evergreen.settings import load_settings; "
        "print(apply(load_settings('local')), 'feast' in sys.modules)"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.split() == ["False", "False"]
    monkeypatch.setattr(store, "definitions_digest", lambda _: "other")
    assert store.apply(settings)


def test_apply_takes_away_what_is_no_longer_defined(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store.apply(settings)
    kept = [item for item in store.definitions(settings) if item.name != "profile_v1"]
    monkeypatch.setattr(store, "definitions", lambda _: kept)
    monkeypatch.setattr(store, "definitions_digest", lambda _: "fewer")
    store.apply(settings)
    assert [service.name for service in store.feature_store(settings).list_feature_services()] == ["buy_again_v1"]


def test_the_yaml_says_what_the_local_profile_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `feast -c feature_repo` and Evergreen look at the same registry, lake and online store."""
    from feast.repo_config import load_repo_config

    monkeypatch.delenv("EVERGREEN_HOME")
    ours = store.repo_config(load_settings("local"))
    yaml = load_repo_config(store.REPO, store.REPO / "feature_store.yaml")
    assert (ours.project, ours.provider) == (yaml.project, yaml.provider)
    assert ours.entity_key_serialization_version == yaml.entity_key_serialization_version
    assert ours.materialization_config == yaml.materialization_config
    assert ours.offline_store.model_dump(exclude={"lake"}) == yaml.offline_store.model_dump(exclude={"lake"})
    places = [(ours.registry.path, yaml.registry.path), (ours.online_store.path, yaml.online_store.path)]
    for absolute, relative_path in [*places, (ours.offline_store.lake, yaml.offline_store.lake)]:
        assert os.path.normpath(store.REPO / relative_path) == absolute


def test_the_note_is_small_json(settings: Settings, published: Release) -> None:
    materialize(settings, published)
    held = store.materialized(store.feature_store(settings))
    assert held is not None
    assert json.loads(json.dumps(held))["as_of"] == str(AS_OF)
    assert held["versions"] == dict(published.versions)
