"""Wherever a history is cut, folding the rest onto the stored state gives what one fold of all of it gives."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.features.fold import PAIR_KEY, fold, newest_states, pair_days, pair_rows
from evergreen.features.session import spark_options
from evergreen.lake.schemas import TRANSACTIONS
from evergreen.settings.platform import SparkSettings
from tests.unit.features.histories import FIRST, history

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 700), step=st.integers(20, 60))
def test_a_fold_continued_is_the_fold_of_all(spark: SparkSession, seed: int, cut: int, step: int) -> None:
    lines = history(seed, days=700, a_day=10, sparse=step)
    table = pa.Table.from_pylist(
        [line.row() | {"event_date": line.day} for line in lines] or [], schema=TRANSACTIONS.schema
    )
    rows = spark.createDataFrame(table)
    edge = FIRST + timedelta(days=cut)
    days = pair_days(rows).persist()
    number = (edge - FIRST).days + (FIRST - FIRST.fromtimestamp(0)).days
    whole = pair_rows(fold(days)).collect()
    early = pair_rows(fold(days.where(f"day < {number}")))
    late = days.where(f"day >= {number}")
    pairs = late.select(*PAIR_KEY).distinct()
    continued = pair_rows(fold(late, newest_states(early.join(pairs, list(PAIR_KEY), "left_semi")))).collect()
    assert sorted([*early.collect(), *continued]) == sorted(whole)
    days.unpersist()


def test_options_of_the_session_are_those_of_the_settings() -> None:
    options = spark_options(SparkSettings(master="local[3]", driver_memory_gib=5, shuffle_partitions=7))
    assert options["spark.master"] == "local[3]"
    assert options["spark.driver.memory"] == "5g"
    assert options["spark.sql.shuffle.partitions"] == "7"
    assert options["spark.sql.session.timeZone"] == "UTC"
