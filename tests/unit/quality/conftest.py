"""Frames in, a report out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evergreen.lake import Lake, Staged, seal, stage_days
from evergreen.lake.schemas import TABLES
from evergreen.lake.staging import new_attempt
from evergreen.quality.runner import QualityReport, validate
from evergreen.settings import Settings, load_settings
from tests.unit.quality.valid_rows import lines, table_of


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose row floors fit these few rows."""
    monkeypatch.setenv("EVERGREEN__QUALITY__MIN_ROWS", "{train: 10, inner: 10, holdout: 10}")
    return load_settings("local")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Mapping[str, pd.DataFrame]], dict[str, list[str]]]:
    """Writes frames as Parquet, a folder a day where the table is one of the lake; gives `{table: files}`."""

    def write_all(frames: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, frame in frames.items():
            if name not in TABLES:
                file = tmp_path / "set" / f"{name}.parquet"
                file.parent.mkdir(exist_ok=True)
                pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
                found[name] = [str(file)]
                continue
            for day, rows in frame.groupby("event_date"):
                folder = tmp_path / "rows" / name / f"event_date={day}"
                folder.mkdir(parents=True, exist_ok=True)
                pq.write_table(table_of(name, rows).drop_columns("event_date"), folder / "part-0.parquet")
                found.setdefault(name, []).append(str(folder / "part-0.parquet"))
        return found

    return write_all


@pytest.fixture
def stage(lake: Lake) -> Callable[..., Staged]:
    """Stages days of transactions, `{day: lines}`."""

    def stage_all(days: Mapping[date, int], *, start: date | None = None, end: date | None = None) -> Staged:
        attempt = new_attempt()
        tables = ((day, table_of("transactions", lines(count, day))) for day, count in days.items() if count)
        stage_days(lake, "transactions", attempt, tables)
        first, last = start or min(days), end or max(days)
        return seal(lake, "transactions", attempt, start=first, end=last, transform="test/1", mark_empty=True)

    return stage_all


@pytest.fixture
def outcome(small: Settings, write: Callable[..., Any]) -> Callable[[str, Mapping[str, pd.DataFrame]], QualityReport]:
    """Runs a suite on frames."""
    return lambda suite, frames: validate(suite, write(frames), small, run_id="test")
