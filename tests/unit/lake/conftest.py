"""Small lakes for tests of staging and publishing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from evergreen.lake import Lake, Staged, seal, stage_days
from evergreen.lake.staging import begin, new_attempt

TABLE = "quarantine"


def lines(rule: str, rows: int) -> pa.Table:
    """Rows of the quarantine table that differ by `rule`."""
    columns = {
        "source": ["drop"] * rows,
        "source_row": list(range(rows)),
        "rule": [rule] * rows,
        "detail": [""] * rows,
        "line": ["{}"] * rows,
        "run_id": ["test"] * rows,
    }
    return pa.table(columns, schema=Lake("x").table(TABLE).spec.file_schema)


@pytest.fixture
def empty_lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def stage(empty_lake: Lake) -> Callable[..., Staged]:
    """Stages days in one attempt: `stage({day: ("rule", rows)})`."""

    def stage_them(days: dict[date, tuple[str, int]], **cover: date) -> Staged:
        attempt = new_attempt()
        begin(empty_lake, TABLE, attempt)
        stage_days(empty_lake, TABLE, attempt, ((day, lines(*content)) for day, content in days.items()))
        start, end = cover.get("start", min(days)), cover.get("end", max(days))
        return seal(empty_lake, TABLE, attempt, start=start, end=end, transform="test/1")

    return stage_them
