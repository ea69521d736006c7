"""The entry point of the feature job."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evergreen.jobs.build_features import main
from evergreen.lake import Lake, latest_release
from evergreen.settings import Settings
from tests.unit.features.histories import FIRST, history, publish_lines

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job finds the tests' session instead of starting one."""
    monkeypatch.setattr("evergreen.features.session.spark_session", lambda settings: spark)


@pytest.mark.usefixtures("session")
def test_what_it_stages_can_be_checked_and_published_by_others(
    settings: Settings, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = FIRST + timedelta(days=6)
    publish_lines(lake, history(seed=1, days=7), last)
    result = tmp_path / "out" / "result.json"
    assert main(["--day", str(last), "--run-id", "r1", "--result", str(result)]) == 0
    summary = json.loads(result.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == summary
    assert Path(summary["manifest"]).is_file()
    assert summary["counts"]["pair_features"] > 0
    assert latest_release(lake, "features") is None

    assert main(["--day", str(last), "--publish"]) == 0
    released = latest_release(lake, "features")
    assert released is not None
    assert released.day == last


def test_a_day_that_is_not_there_is_one_line(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--day", "2023-01-02"]) == 1
    assert capsys.readouterr().err == "evergreen: no transactions are released yet; ingest a day first\n"
