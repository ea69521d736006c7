"""What the bench of features measures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evergreen.errors import LakeError
from evergreen.features.build import plan_build
from evergreen.jobs.bench_features import bench, build_and_measure, main
from evergreen.lake import Lake, latest_release
from evergreen.settings import Settings
from tests.unit.features.histories import FIRST, history, publish_lines

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_each_length_builds_all_then_a_day_then_that_day_corrected(settings: Settings, lake: Lake) -> None:
    last = FIRST + timedelta(days=11)
    publish_lines(lake, history(seed=1, days=12), last)
    seen: list[tuple[date, int, date]] = []

    def measure(home: Path, day: date) -> Mapping[str, float]:
        there = settings.model_copy(update={"home": home})
        plan = plan_build(there, day)
        seen.append((day, len(plan.transactions.days()), plan.transactions.days()[-1]))
        return {"cpu_seconds": 10.0 if day < last else 2.0, "wall_seconds": 1.0}

    found = bench(settings, [50, 8, 4], measure)
    before = last - timedelta(days=1)
    each = [(before, 4, before), (last, 5, last), (last, 5, last)]
    assert seen == each + [(day, days + 4, newest) for day, days, newest in each]
    assert [entry["days"] for entry in found["lengths"]] == [4, 8]
    assert found["lengths"][0]["full_to_daily"] == 5
    assert found["daily_growth"] == 1


def test_too_little_history_is_said(settings: Settings, lake: Lake) -> None:
    publish_lines(lake, history(seed=1, days=3), FIRST + timedelta(days=2))
    with pytest.raises(LakeError, match="transactions hold 3 days, the shortest history needs 5"):
        bench(settings, [4, 9], lambda home, day: {})


def test_a_build_is_published_and_its_seconds_told(
    spark: SparkSession,
    settings: Settings,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("evergreen.features.session.spark_session", lambda settings: spark)
    publish_lines(lake, history(seed=1, days=3), FIRST + timedelta(days=2))
    assert main(["--build", str(FIRST + timedelta(days=2))]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cpu_seconds"] > 0
    assert latest_release(lake, "features") is not None
    again = build_and_measure(settings, FIRST + timedelta(days=2))
    assert again["wall_seconds"] < 5
