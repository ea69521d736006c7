"""The profile against pandas, and outliers against NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evergreen.quality.outliers import outlier_share
from evergreen.quality.profile import completeness, consistency, profile_table
from evergreen.quality.rows import Contents, Rows

FRAME = pd.DataFrame(
    {
        "price": [1.0, 2.0, np.nan, 4.0, 100.0],
        "quantity": [1, 2, 2, 3, -4],
        "country": ["UK", "UK", None, "EIRE", "<b>"],
        "day": [date(2011, 8, 1), date(2011, 8, 2), None, date(2011, 8, 4), date(2011, 8, 5)],
        "days": [[1], [2, 3], [], None, [5]],
        "extra": [None, None, None, None, "{}"],
    }
)


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    pq.write_table(pa.Table.from_pandas(FRAME, preserve_index=False), tmp_path / "t.parquet")
    opened = Rows(Contents({"t": (str(tmp_path / "t.parquet"),)}))
    yield opened
    opened.close()


def test_figures_are_those_of_pandas(rows: Rows) -> None:
    found = profile_table(rows, "t")
    columns = found["columns"]
    assert found["rows"] == 5
    for name in FRAME:
        assert columns[name]["filled_share"] == pytest.approx(FRAME[name].notna().mean()), name
    for name in ("price", "quantity"):
        assert columns[name]["min"] == FRAME[name].min()
        assert columns[name]["max"] == FRAME[name].max()
        assert columns[name]["mean"] == pytest.approx(FRAME[name].mean())
        assert columns[name]["quantiles"]["0.5"] == pytest.approx(FRAME[name].median(), abs=1)
    assert columns["country"]["distinct"] == 3
    assert columns["day"]["min"] == "2011-08-01"
    assert "min" not in columns["country"]
    assert "distinct" not in columns["days"]


def test_a_table_without_rows_has_a_profile(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(FRAME, preserve_index=False).slice(0, 0), tmp_path / "t.parquet")
    rows = Rows(Contents({"t": (str(tmp_path / "t.parquet"),)}))
    found = profile_table(rows, "t")
    rows.close()
    assert found["rows"] == 0
    assert completeness({"t": found}) == 1.0


def test_completeness_counts_cells_but_those_that_are_empty_by_contract(rows: Rows) -> None:
    counted = FRAME.drop(columns="extra")
    assert completeness({"t": profile_table(rows, "t")}) == pytest.approx(counted.notna().to_numpy().mean())


def test_consistency_is_the_share_of_rules_that_hold() -> None:
    assert consistency({"a": (1, 10), "b": (0, 10)}) == pytest.approx(0.95)
    assert consistency({}) == 1.0


def test_infinity_is_text_in_json(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([1.0, np.inf], pa.float64())}), tmp_path / "t.parquet")
    rows = Rows(Contents({"t": (str(tmp_path / "t.parquet"),)}))
    found = profile_table(rows, "t")
    rows.close()
    assert found["columns"]["x"]["max"] == "inf"


def naive_share(values: np.ndarray[Any, Any], z: float) -> float:
    logs = np.sign(values) * np.log1p(np.abs(values))
    deviations = np.abs(logs - np.median(logs))
    spread = 1.4826 * np.median(deviations) or 1.2533 * deviations.mean()
    return float((deviations > z * spread).mean())


@pytest.mark.parametrize("planted", [0, 5, 40])
@pytest.mark.parametrize("equal_share", [0.0, 0.9])
def test_outliers_are_those_of_numpy(tmp_path: Path, planted: int, equal_share: float) -> None:
    random = np.random.default_rng(3)
    values = np.round(random.lognormal(1, 0.6, 1001), 2)
    values[random.random(len(values)) < equal_share] = 2.5
    values[:planted] = 1e6
    pq.write_table(pa.table({"x": values}), tmp_path / "t.parquet")
    rows = Rows(Contents({"t": (str(tmp_path / "t.parquet"),)}))
    share = outlier_share(rows, "t", "x", 6.0)
    rows.close()
    assert share == pytest.approx(naive_share(values, 6.0))
    if planted and not equal_share:
        assert share == pytest.approx(planted / len(values))


def test_no_values_have_no_outliers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([None], pa.float64())}), tmp_path / "t.parquet")
    rows = Rows(Contents({"t": (str(tmp_path / "t.parquet"),)}))
    assert outlier_share(rows, "t", "x", 6.0) is None
    rows.close()
