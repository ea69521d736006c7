"""Small files are put into one, large ones are read as they are: the same rows either way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from evergreen.features import reading
from evergreen.features.reading import read_files, read_small
from evergreen.lake import Lake
from evergreen.lake.schemas import TRANSACTIONS
from tests.unit.features.histories import FIRST, history, publish_lines

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from evergreen.settings import Settings

DAYS = 6


@pytest.fixture
def table(settings: Settings):
    lake = Lake(settings.lake_path)
    publish_lines(lake, history(seed=5, days=DAYS), FIRST + (DAYS - 1) * timedelta(days=1))
    return lake.table("transactions")


def in_order(frame) -> list[tuple]:
    return sorted((tuple(row) for row in frame.collect()), key=repr)


def test_no_files_are_an_empty_frame_of_the_table(spark: SparkSession, tmp_path: Path) -> None:
    frame = read_files(spark, TRANSACTIONS, [], tmp_path)
    assert frame.columns == TRANSACTIONS.schema.names
    assert frame.count() == 0


@pytest.mark.parametrize("some", [False, True])
def test_both_ways_give_the_rows_that_the_lake_holds(
    spark: SparkSession, table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: bool
) -> None:
    keys = table.read().select(["customer_id", "product_id"])
    only = keys.filter(keys["customer_id"].is_valid()).slice(0, 3) if some else None
    only = only.group_by(only.column_names).aggregate([]) if only is not None else None
    small = read_files(spark, table.spec, table.paths(), tmp_path / "small", only=only)
    assert len(list((tmp_path / "small").iterdir())) == 1
    monkeypatch.setattr(reading, "SMALL_BYTES", 0)
    large = read_files(spark, table.spec, table.paths(), tmp_path / "large", only=only)
    assert not (tmp_path / "large").exists()
    assert in_order(small) == in_order(large)
    wanted = table.read() if only is None else table.read().join(only, only.column_names, join_type="left semi")
    assert small.count() == wanted.num_rows
    assert wanted.num_rows > 0
    assert (wanted.num_rows < table.rows) == some


def test_a_column_that_an_older_file_lacks_reads_as_null(table, tmp_path: Path) -> None:
    older = tmp_path / "event_date=2024-01-01" / "older.parquet"
    older.parent.mkdir()
    stored = pq.ParquetFile(table.paths()[0]).read()
    pq.write_table(stored.drop_columns(["description"]), older)
    found = read_small(table.spec, [str(older), *table.paths()])
    lacking = found.slice(0, stored.num_rows)
    assert lacking["description"].null_count == stored.num_rows
    assert found.num_rows == stored.num_rows + table.rows
    alone = read_small(table.spec, [str(older)])
    assert alone["description"].null_count == alone.num_rows
