"""The benchmark of the point-in-time join, on few label rows: it must run and compare, not be fast."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evergreen.errors import FeatureStoreError
from evergreen.jobs import bench_point_in_time_join as bench
from evergreen.lake import Lake


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "data"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bench, "DAYS", 40)
        bench.write_data(folder, 16_000, 2)
    return folder


def test_lake_and_parquet_hold_the_same_rows_and_labels_are_distinct(data: Path) -> None:
    labels = pq.read_table(data / "labels.parquet")
    assert labels.num_rows == 16_000
    keys = ["customer_id", "product_id", "event_timestamp"]
    assert labels.group_by(keys).aggregate([]).num_rows == 16_000
    for table, rows in {"pair_features": 4_000, "customer_features": 160, "product_features": 80}.items():
        assert pq.read_metadata(data / f"{table}.parquet").num_rows == rows
        assert Lake(data / "lake").table(table).rows == rows


@pytest.mark.parametrize("store", [bench.OURS, "feast_duckdb"])
def test_a_store_is_measured_in_a_process_of_its_own(data: Path, store: str) -> None:
    measured = bench.run_store(data, store, 4.0)
    assert measured["rows_in"] == measured["rows_out"] == 16_000
    assert measured["peak_mib"] > measured["join_mib"]
    assert measured["cpu_seconds"] > 0
    again = bench.measure_store(data, bench.OURS)
    assert again["digest"] == measured["digest"]


def test_a_store_that_takes_too_much_memory_is_ended(data: Path) -> None:
    assert "took more than 0.05 GiB" in bench.run_store(data, bench.OURS, 0.05)[bench.ENDED]


def test_a_store_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match="ours ended with code 1"):
        bench.run_store(tmp_path / "nowhere", bench.OURS, 4.0)


def test_ratios_say_whether_the_values_are_the_same() -> None:
    ours = {"seconds": 1.0, "cpu_seconds": 2.0, "join_mib": 10.0, "peak_mib": 100.0, "digest": "a"}
    peer = {"seconds": 3.0, "cpu_seconds": 8.0, "join_mib": 40.0, "peak_mib": 150.0, "digest": "b"}
    found = bench.ratios(peer, ours)
    assert found == {"seconds": 3.0, "cpu_seconds": 4.0, "join_mib": 4.0, "peak_mib": 1.5, "same_values": False}
    assert json.dumps(found)
