"""The benchmark of the online store, on few pairs: it must run, not be fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evergreen.jobs import bench_online_store
from evergreen.jobs.bench_online_store import main
from evergreen.lake import Lake


def test_every_way_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_online_store, "CUSTOMERS", 20)
    monkeypatch.setattr(bench_online_store, "PRODUCTS", 10)
    monkeypatch.setattr(bench_online_store, "READS", 2)
    result = tmp_path / "result.json"
    assert main(["--pairs", "60", "--out", str(result)]) == 0
    measured = json.loads(result.read_text())
    assert set(measured["ways"]) == {"ours", "ours_by_feast_materialize", "feast_sqlite"}
    assert measured["pairs"] == 60
    assert all(value > 0 for way in measured["ways"].values() for value in way.values())
    assert measured["feast_sqlite_to_ours"]["bytes"] > 1


def test_pairs_are_different(lake: Lake) -> None:
    """Beyond the point where customers and products come round together."""
    keys = {(bench_online_store._customer(n), bench_online_store._product(n)) for n in range(0, 400_000)}
    assert len(keys) == 400_000
    bench_online_store.write_tables(lake, 100)
    assert lake.table("pair_features").rows == 100
