"""The feature tables against an oracle in plain Python, and bulk = daily = corrected."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from evergreen.errors import LakeError
from evergreen.features.build import FOLDED, SNAPSHOTS, TABLES, plan_build, stage_features
from evergreen.features.grid import grid
from evergreen.features.materialize import newest_as_of
from evergreen.lake import Lake, latest_release, publish
from evergreen.lake.staged_set import publish_set
from evergreen.settings import Settings
from tests.unit.features.histories import (
    FIRST,
    PRODUCTS,
    Line,
    expected_customer,
    expected_pair,
    expected_product,
    history,
    publish_lines,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = timedelta(days=1)


def no_spark() -> SparkSession:
    raise AssertionError("a session was started")


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Settings whose grid has two training dates, near the newest day."""
    training = settings.training.model_copy(update={"horizon_days": 3, "steps": 2, "step_days": 2, "min_steps": 1})
    return settings.model_copy(update={"training": training})


def build(spark: SparkSession, settings: Settings, day: date) -> dict[str, object]:
    return publish_set(Lake(settings.lake_path), stage_features(spark, settings, day))


def at(settings: Settings, name: str) -> Settings:
    """The same settings with a home, and so a lake, of its own."""
    return settings.model_copy(update={"home": settings.home_path / name})


def rows(lake: Lake, table: str, day: date) -> list[dict[str, object]]:
    found = lake.table(table).read(day, day).drop_columns(["event_date", "event_timestamp"])
    return list(found.to_pylist())


def test_every_row_is_what_plain_python_finds(spark: SparkSession, small: Settings) -> None:
    lines = history(seed=1, days=460, a_day=8, sparse=17)
    last = FIRST + 459 * DAY
    lake = Lake(small.lake_path)
    publish_lines(lake, lines, last)
    build(spark, small, last)

    pairs = lake.table("pair_features").read().drop_columns(["event_timestamp"]).to_pylist()
    bought = {(line.day, line.customer, line.product) for line in lines if line.bought}
    assert {(row["event_date"], row["customer_id"], row["product_id"]) for row in pairs} == bought
    for row in pairs:
        day, customer, product = row.pop("event_date"), row.pop("customer_id"), row.pop("product_id")
        assert row == expected_pair(lines, customer, product, day)
    assert lake.table("customer_features").days() == [as_of - DAY for as_of in grid(last, small.training).dates]
    for as_of in grid(last, small.training).dates:
        expected = {name: expected_customer(lines, name, as_of) for name in ("C1", "C2", "C3")}
        found = {str(row.pop("customer_id")): row for row in rows(lake, "customer_features", as_of - DAY)}
        assert found == {name: row for name, row in expected.items() if row}
        expected = {name: expected_product(lines, name, as_of) for name in PRODUCTS}
        found = {str(row.pop("product_id")): row for row in rows(lake, "product_features", as_of - DAY)}
        assert found == {name: row for name, row in expected.items() if row}


def test_rows_are_true_from_the_day_after_on_and_in_the_order_of_their_key(
    spark: SparkSession, small: Settings
) -> None:
    lake, last = Lake(small.lake_path), FIRST + 20 * DAY
    publish_lines(lake, history(seed=2, days=21), last)
    build(spark, small, last)
    for name in ("pair_features", *SNAPSHOTS):
        table = lake.table(name)
        stored = table.read()
        days = stored["event_date"].to_pylist()
        assert [stamp.date() for stamp in stored["event_timestamp"].to_pylist()] == [day + DAY for day in days]
        assert len(table.files) == len(table.days()), "one file a day"
        for day in table.days():
            part = table.read(day, day)
            keys = list(zip(*(part[key].to_pylist() for key in table.spec.key), strict=True))
            assert keys == sorted(set(keys))


def test_bulk_daily_late_and_corrected_days_leave_the_same_rows(spark: SparkSession, small: Settings) -> None:
    """Days come one by one, one of them late and one corrected twice; the bulk load sees only the end."""
    days = 8
    lines = history(seed=3, days=days, a_day=7)
    last = FIRST + (days - 1) * DAY
    late, corrected = FIRST + 4 * DAY, FIRST + 2 * DAY
    wrong = [Line(corrected, "C1", "P1", 7, 125), Line(corrected, "C9", "P2", 1, 250)]
    step = at(small, "daily")
    stepwise = Lake(step.lake_path)
    so_far = [line for line in lines if line.day not in (late, corrected)] + wrong
    publish_lines(stepwise, so_far, FIRST + 3 * DAY)
    build(spark, step, FIRST + 3 * DAY)
    for offset in (4, 7):  # 4 without its lines yet; 5 to 7 together
        publish_lines(stepwise, so_far, FIRST + offset * DAY, first=FIRST + min(offset, 5) * DAY)
        build(spark, step, FIRST + offset * DAY)
    so_far = [line for line in lines if line.day != corrected] + wrong
    publish_lines(stepwise, so_far, late, first=late)
    build(spark, step, last)
    publish_lines(stepwise, lines, corrected, first=corrected)
    build(spark, step, last)

    bulk = at(small, "bulk")
    publish_lines(Lake(bulk.lake_path), lines, last)
    build(spark, bulk, last)

    for name in FOLDED:
        assert stepwise.table(name).digests == Lake(bulk.lake_path).table(name).digests, name
    for name in SNAPSHOTS:
        found, wanted = stepwise.table(name).digests, Lake(bulk.lake_path).table(name).digests
        assert wanted.items() <= found.items(), name
    assert not stepwise.table("customer_features").read().filter(pa.compute.field("customer_id") == "C9").num_rows


@pytest.mark.slow
@hypothesis_settings(
    max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10_000),
    late=st.sets(st.integers(1, 6), max_size=2),
    corrected=st.sets(st.integers(0, 7), max_size=2),
    loads=st.sets(st.integers(1, 7), max_size=2),
    order=st.randoms(use_true_random=False),
)
def test_any_order_of_loads_leaves_the_rows_of_one_bulk_load(
    spark: SparkSession,
    small: Settings,
    seed: int,
    late: set[int],
    corrected: set[int],
    loads: set[int],
    order: random.Random,
) -> None:
    """Days come in loads of random length, some late, some wrong at first; all are made good in a random order."""
    days = 8
    lines = history(seed=seed, days=days, a_day=6)
    step, bulk = at(small, f"steps-{uuid4().hex}"), at(small, f"bulk-{uuid4().hex}")
    stepwise = Lake(step.lake_path)
    odd = sorted(late | corrected)
    shown = [line for line in lines if (line.day - FIRST).days not in odd]
    shown += [Line(FIRST + day * DAY, "C9", "P2", 1, 250) for day in corrected]
    begun = 0
    for end in sorted({*loads, days}):
        publish_lines(stepwise, shown, FIRST + (end - 1) * DAY, first=FIRST + begun * DAY)
        build(spark, step, FIRST + (end - 1) * DAY)
        begun = end
    order.shuffle(odd)
    for number in odd:
        day = FIRST + number * DAY
        shown = [line for line in shown if line.day != day] + [line for line in lines if line.day == day]
        publish_lines(stepwise, shown, day, first=day)
        if order.random() < 0.5:
            build(spark, step, day)
    build(spark, step, FIRST + (days - 1) * DAY)

    publish_lines(Lake(bulk.lake_path), lines, FIRST + (days - 1) * DAY)
    build(spark, bulk, FIRST + (days - 1) * DAY)
    for name in (*FOLDED, *SNAPSHOTS):
        found, wanted = stepwise.table(name).digests, Lake(bulk.lake_path).table(name).digests
        assert wanted.items() <= found.items() if name in SNAPSHOTS else wanted == found, name


def test_a_purchase_at_or_after_as_of_leaves_every_feature_byte_equal(spark: SparkSession, small: Settings) -> None:
    lines = history(seed=5, days=12, a_day=6)
    as_of = FIRST + 10 * DAY

    def built(name: str, planted: Sequence[Line]) -> dict[str, dict[date, str]]:
        home = at(small, name)
        lake = Lake(home.lake_path)
        publish_lines(lake, [*lines, *planted], FIRST + 11 * DAY)
        build(spark, home, as_of - DAY)
        tables = {table: lake.table(table).digests for table in TABLES}
        return {
            table: {day: digest for day, digest in digests.items() if day < as_of} for table, digests in tables.items()
        }

    later = [Line(as_of, "C1", "P1", 3, 125), Line(as_of + DAY, "C1", "P2", 3, 125), Line(as_of, None, "P3", 1, 250)]
    plain = built("plain", [])
    assert plain == built("planted", later)
    assert plain != built("control", [Line(as_of - DAY, "C1", "P1", 3, 125)])


def test_the_same_lines_again_start_no_spark_and_publish_nothing(spark: SparkSession, small: Settings) -> None:
    lake, last = Lake(small.lake_path), FIRST + 9 * DAY
    publish_lines(lake, history(seed=6, days=10), last)
    first = build(spark, small, last)
    assert first["unchanged"] is False
    staged = stage_features(no_spark, small, last)
    assert (staged.changed_days, staged.rows) == ([], 0)
    again = publish_set(lake, staged)
    assert again["unchanged"] is True
    assert again["versions"] == first["versions"]
    assert again["release"] == first["release"]


def test_a_day_without_lines_is_a_day(spark: SparkSession, small: Settings) -> None:
    lake = Lake(small.lake_path)
    publish_lines(lake, history(seed=7, days=5), FIRST + 4 * DAY)
    build(spark, small, FIRST + 4 * DAY)
    publish_lines(lake, [], FIRST + 5 * DAY, first=FIRST + 5 * DAY)
    assert build(spark, small, FIRST + 5 * DAY)["unchanged"] is False
    assert lake.table("customer_features").days()[-1] == FIRST + 5 * DAY
    assert stage_features(no_spark, small, FIRST + 5 * DAY).rows == 0


def test_an_older_day_gets_the_snapshots_of_its_own_grid_alone(spark: SparkSession, small: Settings) -> None:
    lake, last = Lake(small.lake_path), FIRST + 29 * DAY
    publish_lines(lake, history(seed=8, days=30), last)
    build(spark, small, last)
    folded = {name: lake.table(name).version for name in FOLDED}
    older = FIRST + 20 * DAY
    plan = plan_build(small, older)
    assert plan.changed_from is None
    assert plan.snapshots == tuple(as_of - DAY for as_of in grid(older, small.training).dates)
    before = lake.table("customer_features").digests
    build(spark, small, older)
    assert {name: lake.table(name).version for name in FOLDED} == folded
    assert before.items() <= lake.table("customer_features").digests.items()
    released = latest_release(lake, "features")
    assert released is not None
    assert released.day == last


def test_a_day_built_while_newer_ones_are_ingested_leaves_a_release_that_can_go_online(
    spark: SparkSession, small: Settings
) -> None:
    """A backfill ingests faster than features follow: the first build folds days whose own builds are still to come."""
    lake, last = Lake(small.lake_path), FIRST + 9 * DAY
    publish_lines(lake, history(seed=9, days=10), last)
    build(spark, small, FIRST + 7 * DAY)
    released = latest_release(lake, "features")
    assert released is not None
    assert newest_as_of(lake, released) == last + DAY
    for table in ("pair_features", *SNAPSHOTS):
        assert lake.table(table, released.versions[table]).days()[-1] == last


def test_settings_that_change_rows_build_everything_anew(spark: SparkSession, small: Settings) -> None:
    lake, last = Lake(small.lake_path), FIRST + 5 * DAY
    publish_lines(lake, history(seed=9, days=6), last)
    build(spark, small, last)
    assert plan_build(small, last).nothing
    features = small.features.model_copy(update={"categories": {"bags": ("BAG",)}})
    plan = plan_build(small.model_copy(update={"features": features}), last)
    assert plan.rebuild
    assert set(plan.snapshots) == set(lake.table("customer_features").days())


def test_a_build_that_crashed_between_two_tables_is_made_good(spark: SparkSession, small: Settings) -> None:
    """Its rows came from lines that were then corrected back: no line differs from the release, the rows do."""
    lake, last = Lake(small.lake_path), FIRST + 5 * DAY
    lines = history(seed=10, days=6, a_day=6)
    publish_lines(lake, lines, last)
    build(spark, small, last)
    good = {name: lake.table(name).digests for name in TABLES}
    publish_lines(lake, [*lines, Line(last, "C1", "P1", 5, 125)], last, first=last)
    publish(lake, stage_features(spark, small, last).part("pair_features"))
    publish_lines(lake, lines, last, first=last)
    assert lake.table("pair_features").digests != good["pair_features"]
    build(spark, small, last)
    assert {name: lake.table(name).digests for name in TABLES} == good


def test_lines_whose_release_was_vacuumed_are_folded_anew(
    spark: SparkSession, small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, last = Lake(small.lake_path), FIRST + 3 * DAY
    publish_lines(lake, history(seed=11, days=4), last)
    build(spark, small, last)
    publish_lines(lake, [], last + DAY, first=last + DAY)
    released = latest_release(lake, "features")
    assert released is not None
    gone = replace(released, inputs={**released.inputs, "transactions": 999})
    monkeypatch.setattr("evergreen.features.build.latest_release", lambda lake, name: _or(gone, lake, name))
    assert plan_build(small, last + DAY).rebuild


def _or(gone: object, lake: Lake, name: str) -> object:
    return gone if name == "features" else latest_release(lake, name)


def test_a_day_that_is_not_ingested_is_refused(spark: SparkSession, small: Settings) -> None:
    with pytest.raises(LakeError, match="no transactions are released yet"):
        stage_features(no_spark, small, FIRST)
    publish_lines(Lake(small.lake_path), history(seed=12, days=3), FIRST + 2 * DAY)
    with pytest.raises(LakeError, match="transactions hold 2023-01-02 to 2023-01-04, not 2023-01-05"):
        stage_features(no_spark, small, FIRST + 3 * DAY)
