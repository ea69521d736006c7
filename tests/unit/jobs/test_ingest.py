"""The job stages, writes its result and prints it last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evergreen.jobs.ingest import main
from evergreen.lake import Lake, StagedSet, publish_set
from evergreen.settings import Settings
from tests.unit.ingest.conftest import FIRST, as_csv, days_of_lines


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.csv"
    file.write_text(as_csv(days_of_lines(2, 5)))
    return file


def test_the_result_can_be_published(
    settings: Settings, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "out" / "result.json"
    days = ["--start", "2011-08-01", "--end", "2011-08-02"]
    assert main([*days, "--source", str(shop), "--run-id", "r", "--result", str(result)]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(result.read_text())
    assert [path.name for path in result.parent.iterdir()] == ["result.json"]
    assert (printed["name"], printed["rows"], printed["counts"]["rows_in"]) == ("transactions", 10, 10)
    published = publish_set(Lake(settings.lake_path), StagedSet.load(printed["manifest"]))
    assert published["earliest_changed"] == str(FIRST)


def test_one_day_is_the_default(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--start", "2011-08-02", "--source", str(shop)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["start"], printed["end"], printed["rows"]) == ("2011-08-02", "2011-08-02", 5)


def test_an_expected_error_is_one_line(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "result.json"
    assert main(["--start", "2011-08-09", "--source", str(shop), "--result", str(result)]) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "evergreen: shop.csv reaches to 2011-08-02, 2011-08-09 was asked for. Wait for it, or name an earlier day\n"
    )
    assert captured.out == ""
    assert not result.exists()


def test_a_day_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--start", "1.8.2011"])
    assert "'1.8.2011' is no day, expected YYYY-MM-DD such as 2011-08-31" in capsys.readouterr().err


def test_it_runs_as_a_process(settings: Settings, shop: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evergreen.jobs.ingest", "--start", "2011-08-01", "--source", str(shop)],
        env=os.environ | {"PYTHONPATH": "include", "EVERGREEN_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 5
