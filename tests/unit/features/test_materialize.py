"""The online store equals the newest release after every materialization, or stays as it was."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from evergreen.errors import FeatureStoreError
from evergreen.features import materialize as module
from evergreen.features import store
from evergreen.features.materialize import check_online, materialize
from evergreen.lake import Lake, Release
from evergreen.settings import Settings

DAY = timedelta(days=1)
NEWEST = date(2011, 8, 31)
AS_OF = NEWEST + DAY

Purchase = tuple[date, str, str, int]
Publish = Callable[..., Release]

OLD = (NEWEST - 20 * DAY, "c1", "p1", 2)
RECENT = (NEWEST - 2 * DAY, "c1", "p1", 3)
OTHER = (NEWEST - 5 * DAY, "c2", "p2", 4)
LAST = (NEWEST, "c3", "p3", 1)
PURCHASES = [OLD, RECENT, OTHER, LAST]


def online(settings: Settings, as_of: date, *pairs: tuple[str, str]) -> list[dict[str, Any]]:
    frame = pd.DataFrame(pairs, columns=["customer_id", "product_id"])
    return store.online_features(settings, frame, as_of).to_dict("records")


def recency(settings: Settings, as_of: date, *pairs: tuple[str, str]) -> list[float | None]:
    """Days since each pair's newest purchase, as served online; None: not known."""
    days = [row["pair_recency_days"] for row in online(settings, as_of, *pairs)]
    return [None if day != day else day for day in days]


def test_first_load_then_nothing_then_a_day(settings: Settings, lake: Lake, publish_features: Publish) -> None:
    first = publish_features(PURCHASES, NEWEST)
    loaded = materialize(settings, first)
    assert loaded["windows"] == {
        "customer_state": [str(NEWEST), str(NEWEST)],
        "product_state": [str(NEWEST), str(NEWEST)],
        "pair_state": [str(NEWEST - 364 * DAY), str(NEWEST)],
    }
    assert loaded["rows"] == {"pair_state": 3, "customer_state": 3, "product_state": 3}
    assert loaded["as_of"] == str(AS_OF)
    assert loaded["checked"] > 3 * 200
    assert not loaded["unchanged"]

    again = materialize(settings, first)
    assert again["unchanged"]
    assert again["rows"] == loaded["rows"]

    tomorrow = NEWEST + DAY
    second = publish_features([*PURCHASES, (tomorrow, "c1", "p1", 9)], tomorrow, AS_OF)
    added = materialize(settings, second)
    assert added["windows"]["pair_state"] == [str(tomorrow), str(tomorrow)]
    assert recency(settings, AS_OF + DAY, ("c1", "p1"), ("c2", "p2")) == [1, 7]
    records = lake.table("materializations").read().to_pylist()
    assert [(row["release"], row["view"], row["window_start"]) for row in records if row["view"] == "pair_state"] == [
        (1, "pair_state", NEWEST - 364 * DAY),
        (2, "pair_state", tomorrow),
    ]
    assert {row["event_date"] for row in records} == {NEWEST, tomorrow}


def test_a_day_without_purchases_moves_the_date(settings: Settings, publish_features: Publish) -> None:
    materialize(settings, publish_features(PURCHASES, NEWEST))
    quiet = materialize(settings, publish_features(PURCHASES, NEWEST + DAY, AS_OF))
    assert "pair_state" not in quiet["windows"]
    assert recency(settings, AS_OF + DAY, ("c1", "p1")) == [4]


@pytest.mark.parametrize(
    ("corrected", "expected"),
    [
        pytest.param([OLD, OTHER, LAST], [21, 6], id="newest purchase removed"),
        pytest.param([RECENT, OLD, LAST], [3, None], id="pair removed"),
        pytest.param([OLD, (NEWEST - 3 * DAY, "c1", "p1", 3), OTHER, LAST], [4, 6], id="moved to an earlier day"),
        pytest.param([OLD, (NEWEST - DAY, "c1", "p1", 3), OTHER, LAST], [2, 6], id="moved to a later day"),
        pytest.param([RECENT, OTHER], [3, 6], id="first and last purchases removed"),
        pytest.param([*PURCHASES, (NEWEST - 10 * DAY, "c1", "p1", 8)], [3, 6], id="a late old day"),
    ],
)
def test_corrections(
    settings: Settings, publish_features: Publish, corrected: list[Purchase], expected: list[float | None]
) -> None:
    materialize(settings, publish_features(PURCHASES, NEWEST))
    materialize(settings, publish_features(corrected, NEWEST))
    assert recency(settings, AS_OF, ("c1", "p1"), ("c2", "p2")) == expected


@pytest.mark.fault
def test_without_forgetting_a_removed_purchase_would_be_noticed(
    settings: Settings, publish_features: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the corrections: writing the window alone leaves what the correction took away."""
    materialize(settings, publish_features(PURCHASES, NEWEST))
    monkeypatch.setattr(store, "forget", lambda *_: None)
    with pytest.raises(FeatureStoreError, match=r"pair_purchase_days is .* online, .* offline"):
        materialize(settings, publish_features([OLD, OTHER, LAST], NEWEST))
    with pytest.raises(FeatureStoreError, match="pair_state has 3 entities online and 2 offline"):
        materialize(settings, publish_features([OLD, RECENT, LAST], NEWEST))
    assert recency(settings, AS_OF, ("c1", "p1"), ("c2", "p2")) == [3, 6]  # nothing of either was committed


def test_pairs_and_snapshots_expire(settings: Settings, publish_features: Publish) -> None:
    """Feast ignores times to live online: what offline no longer sees must be gone."""
    aged = (NEWEST - 364 * DAY, "c9", "p9", 1)
    first = materialize(settings, publish_features([*PURCHASES, aged], NEWEST))
    assert first["rows"] == {"pair_state": 4, "customer_state": 4, "product_state": 4}
    assert recency(settings, AS_OF, ("c9", "p9")) == [365]
    second = materialize(settings, publish_features([*PURCHASES, aged], NEWEST + DAY))
    assert second["rows"] == {"pair_state": 3, "customer_state": 3, "product_state": 3}
    [row] = online(settings, AS_OF + DAY, ("c9", "p9"))
    assert row["user_segment"] == row["category"] == "unknown"


def test_an_older_release_changes_nothing(settings: Settings, publish_features: Publish) -> None:
    first = publish_features([OLD, LAST], NEWEST)
    second = publish_features(PURCHASES, NEWEST)
    materialize(settings, second)
    late = materialize(settings, first)
    assert late["unchanged"]
    assert late["release"] == second.sequence
    assert recency(settings, AS_OF, ("c1", "p1")) == [3]


def test_a_release_of_an_older_day_does_not_set_time_back(settings: Settings, publish_features: Publish) -> None:
    materialize(settings, publish_features(PURCHASES, NEWEST))
    backfilled = publish_features([*PURCHASES, (NEWEST - 300 * DAY, "c1", "p7", 1)], NEWEST)
    older_day = Release("features", NEWEST - 300 * DAY, backfilled.sequence, backfilled.digest, backfilled.versions, {})
    done = materialize(settings, older_day)
    assert done["as_of"] == str(AS_OF)
    assert done["windows"]["pair_state"][0] == str(NEWEST - 300 * DAY)
    assert recency(settings, AS_OF, ("c1", "p7"), ("c1", "p1")) == [301, 3]


def test_other_definitions_load_everything_again(
    settings: Settings, publish_features: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish_features(PURCHASES, NEWEST)
    materialize(settings, first)
    monkeypatch.setattr(store, "definitions_digest", lambda _: "other")
    again = materialize(settings, first)
    assert again["windows"]["pair_state"] == [str(NEWEST - 364 * DAY), str(NEWEST)]


def test_another_lake_is_loaded_from_the_beginning(settings: Settings, lake: Lake, publish_features: Publish) -> None:
    """Its releases count from 1 again: numbers alone would say that the online store is newer."""
    publish_features(PURCHASES, NEWEST)
    materialize(settings, publish_features(PURCHASES, NEWEST))
    shutil.rmtree(lake.root)
    done = materialize(settings, publish_features([OTHER, LAST], NEWEST))
    assert done["release"] == 1
    assert done["rows"]["pair_state"] == 2


@pytest.mark.fault
def test_a_value_that_differs_is_named_and_nothing_is_committed(
    settings: Settings, publish_features: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    materialize(settings, publish_features([OLD, OTHER, LAST], NEWEST))
    right = store.read_offline

    def wrong(*arguments: Any) -> pd.DataFrame:
        found = right(*arguments)
        found.loc[found["customer_id"] == "c2", "pair_total_purchases"] = 41
        return found

    monkeypatch.setattr(store, "read_offline", wrong)
    message = "customer c2, product p2 as of 2011-09-01: pair_total_purchases is 1.0 online, 41.0 offline"
    with pytest.raises(FeatureStoreError, match=message):
        materialize(settings, publish_features(PURCHASES, NEWEST))
    assert recency(settings, AS_OF, ("c1", "p1")) == [21]


def test_a_missing_snapshot_is_an_error(settings: Settings, lake: Lake, publish_features: Publish) -> None:
    complete = publish_features(PURCHASES, NEWEST)
    newer = Release("features", NEWEST + DAY, 9, "digest", complete.versions, {})
    with pytest.raises(FeatureStoreError, match="customer_features has no snapshot as of 2011-09-02"):
        materialize(settings, newer)


def test_a_crash_leaves_the_old_state(
    settings: Settings, publish_features: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    materialize(settings, publish_features([OLD, OTHER, LAST], NEWEST))
    second = publish_features(PURCHASES, NEWEST)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_reconcile", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            materialize(settings, second)
    assert recency(settings, AS_OF, ("c1", "p1")) == [21]
    materialize(settings, second)
    assert recency(settings, AS_OF, ("c1", "p1")) == [3]


@hypothesis_settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_history_of_corrections_leaves_online_equal_to_offline(
    settings: Settings, publish_features: Publish, seed: int
) -> None:
    """Every pair is compared after each release, not a sample: new, late, changed and removed purchases, new days."""
    rng = random.Random(seed)
    pairs = [(f"c{n % 3}", f"p{n // 3}") for n in range(9)]
    newest = NEWEST
    history = {(newest - rng.randrange(400) * DAY, *rng.choice(pairs), rng.randint(1, 9)) for _ in range(12)}
    history.add((newest, *pairs[0], 1))
    for _ in range(4):
        release = publish_features(sorted(history), newest)
        materialize(settings, release)
        feast = store.feature_store(settings, release.versions)
        everything = pd.DataFrame([*pairs, ("nobody", "p1")], columns=["customer_id", "product_id"])
        check_online(feast, everything, newest + DAY)
        for purchase in rng.sample(sorted(history), k=min(3, len(history) - 1)):
            if purchase[0] < newest:
                history.discard(purchase)
        history |= {(newest - rng.randrange(60) * DAY, *rng.choice(pairs), rng.randint(1, 9)) for _ in range(3)}
        if rng.random() < 0.5:
            newest += DAY
            history.add((newest, *rng.choice(pairs), 2))
