from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.errors import SourceError
from evergreen.lake.staged_set import StagedSet
from evergreen_airflow.operators.ingest import LandingSensor, StageTransactionsOperator

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"


def write_day(file: Path, day: str, lines: int = 3) -> Path:
    rows = [f"{500 + n},A{n},mug,2,{day} 10:0{n}:00,1.5,1234{n},France" for n in range(lines)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([HEADER, *rows]) + "\n")
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that holds 2011-08-30."""
    return write_day(tmp_path / "shop.csv", "2011-08-30")


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A landing folder with the drop of 2011-08-30."""
    return write_day(tmp_path / "landing" / "2011-08-30.csv", "2011-08-30").parent


def sensor(day: str, source: Path) -> LandingSensor:
    return LandingSensor(task_id="wait", day=day, source=str(source))


def test_a_day_that_is_there_is_not_waited_for(context, file, landing):
    assert sensor("2011-08-30", file).poke(context()) is True
    assert sensor("2011-08-30", landing).poke(context()) is True


def test_a_day_beyond_the_end_of_a_file_is_skipped(context, file):
    with pytest.raises(AirflowSkipException, match=r"^shop.csv ends on 2011-08-30: there is nothing for 2026-11-19$"):
        sensor("2026-11-19", file).poke(context())


def test_a_drop_that_has_not_landed_is_waited_for(context, landing):
    assert sensor("2011-08-31", landing).poke(context()) is False
    write_day(landing / "2011-08-31.csv", "2011-08-31")
    assert sensor("2011-08-31", landing).poke(context()) is True


def test_an_empty_landing_folder_is_waited_for(context, tmp_path):
    assert sensor("2011-08-31", tmp_path).poke(context()) is False


def test_a_source_that_does_not_exist_is_named(context):
    with pytest.raises(SourceError, match="source /nowhere does not exist"):
        sensor("2011-08-31", Path("/nowhere")).poke(context())


def test_a_long_wait_holds_no_worker_and_ends_without_a_failure():
    waiting = sensor("2011-08-31", Path("x"))
    assert waiting.mode == "reschedule"
    assert waiting.soft_fail is True


def test_staging_counts_every_line_and_publishes_nothing(context, lake, file):
    operator = StageTransactionsOperator(task_id="stage", day="2011-08-30", source=str(file))
    summary = operator.execute(context())
    assert summary["counts"]["rows_in"] == summary["counts"]["rows_out"] == 3
    assert StagedSet.load(summary["manifest"]).rows == 3
    assert lake.table("transactions").version is None


def test_a_range_that_runs_backwards_is_refused(context, file):
    operator = StageTransactionsOperator(task_id="stage", day="2011-08-29", start="2011-08-30", source=str(file))
    with pytest.raises(ValueError, match="the range begins on 2011-08-30, after its last day 2011-08-29: swap them"):
        operator.execute(context())


def test_what_is_templated():
    assert LandingSensor.template_fields == ("day", "source")
    assert StageTransactionsOperator.template_fields == ("day", "start", "source")
