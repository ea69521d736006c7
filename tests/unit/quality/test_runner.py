"""What is checked of staged rows, how a failure reads, and that no expectation can vanish."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from evergreen.errors import DataQualityError
from evergreen.lake import Lake, Staged, publish, seal, stage_days
from evergreen.lake.schemas import TABLES
from evergreen.lake.staged_set import StagedSet
from evergreen.lake.staging import new_attempt
from evergreen.quality import expectations
from evergreen.quality.expectations import Outcome
from evergreen.quality.reports import read_report
from evergreen.quality.rows import Rows, contents
from evergreen.quality.runner import QualityReport, validate
from evergreen.quality.suites import suite
from evergreen.settings import Settings, load_settings
from tests.unit.quality.valid_rows import DAY, feature_frames, lines, training_frames

Stage = Callable[..., Staged]
Write = Callable[[Mapping[str, pd.DataFrame]], dict[str, list[str]]]
Run = Callable[[str, Mapping[str, pd.DataFrame]], QualityReport]
WEEK = timedelta(days=7)


@pytest.fixture
def without_expectations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every expectation holds, without Great Expectations: for tests of what is around it."""
    monkeypatch.setattr(
        expectations,
        "run",
        lambda batches, docs, run_name: {
            check.key: Outcome(True, True, None) for batch in batches for check in batch.checks
        },
    )


def failed(report: QualityReport) -> dict[str, str]:
    return {result.check.key: result.message for result in report.failed}


def test_a_missing_column_is_named_and_what_needs_it_cannot_pass(outcome: Run) -> None:
    report = outcome("transactions", {"transactions": lines().drop(columns=["customer_id"])})
    messages = failed(report)
    assert "missing customer_id" in messages["transactions.columns"]
    for key in ("transactions.missing_customers", "transactions.lost_customers", "transactions.purchase_flag"):
        assert "could not be checked" in messages[key], "not even a warning lets it pass unchecked"
    assert "transactions.amount" not in messages


@pytest.mark.parametrize("table", ["train", "inner", "holdout"])
def test_a_training_set_needs_its_keys_and_label(outcome: Run, table: str) -> None:
    frames = training_frames()
    frames[table] = frames[table].drop(columns=["label"])
    assert "missing label" in failed(outcome("training_set", frames))[f"{table}.columns"]


def test_a_missing_table_fails_all_of_its_checks(outcome: Run) -> None:
    frames = training_frames()
    del frames["holdout"]
    report = outcome("training_set", frames)
    keys = {result.check.key for result in report.results if result.check.table == "holdout"}
    assert keys <= set(failed(report))


def test_feature_tables_need_their_columns(outcome: Run) -> None:
    frames = feature_frames()
    short = {name: frame.drop(columns=frame.columns[-2]) for name, frame in frames.items()}
    messages = failed(outcome("features", short))
    for name, frame in frames.items():
        assert f"missing {frame.columns[-2]}" in messages[f"{name}.columns"]


def test_an_empty_table_fails_and_an_empty_day_does_not(lake: Lake, small: Settings, stage: Stage) -> None:
    empty = stage({DAY: 0})
    message = failed(validate("transactions", empty, small))["transactions.rows"]
    assert message.endswith("is 0, allowed is at least 1")
    publish(lake, stage({DAY - WEEK: 50}))
    report = validate("transactions", empty, small)
    assert report.success
    assert report.rows == {"transactions": 0}


def test_empty_feature_tables_fail(small: Settings, lake: Lake) -> None:
    parts = []
    for table in feature_frames():
        attempt = new_attempt()
        stage_days(lake, table, attempt, [])
        parts.append(seal(lake, table, attempt, start=DAY, end=DAY, transform="test/1"))
    report = validate("features", StagedSet("features", DAY, DAY, DAY, tuple(parts)), small)
    assert {f"{table}.rows" for table in feature_frames()} == set(failed(report))


def test_rows_that_will_be_replaced_do_not_count(
    lake: Lake, small: Settings, stage: Stage, without_expectations: None
) -> None:
    publish(lake, stage({DAY - WEEK: 50, DAY: 40}))
    report = validate("transactions", stage({DAY: 30}), small)
    rows = next(result for result in report.results if result.check.key == "transactions.rows")
    assert rows.observed == 80
    assert report.rows == {"transactions": 30}, "only what changes is read"


def test_an_unchanged_day_is_checked_again(
    lake: Lake, small: Settings, stage: Stage, without_expectations: None
) -> None:
    publish(lake, stage({DAY: 40}))
    again = stage({DAY: 40})
    assert again.changed_days == []
    assert validate("transactions", again, small).rows == {"transactions": 40}


class TestVolume:
    @pytest.fixture
    def history(self, lake: Lake, stage: Stage) -> None:
        publish(lake, stage({DAY - WEEK * week: 60 + week for week in range(1, 10)}))

    def test_too_few_lines_stop_the_run_with_what_to_do(self, history: None, small: Settings, stage: Stage) -> None:
        with pytest.raises(DataQualityError) as stopped:
            validate("transactions", stage({DAY: 2}), small, run_id="r").raise_if_failed()
        assert str(stopped.value).startswith(
            "2011-08-31 has 2 lines, the last 8 Wednesdays had 61 to 68: not published. "
            "If this is right: ./evergreen run --day 2011-08-31 --accept-volume. "
        )
        assert "\n" not in str(stopped.value)

    def test_a_person_can_accept_it(self, history: None, small: Settings, stage: Stage) -> None:
        assert validate("transactions", stage({DAY: 2}), small, accept_volume=True).success

    def test_the_usual_volume_passes(self, history: None, small: Settings, stage: Stage) -> None:
        assert validate("transactions", stage({DAY: 70}), small).success

    def test_in_a_load_of_history_only_the_last_day_stops(self, small: Settings, stage: Stage) -> None:
        weeks = {DAY - WEEK * week: 60 for week in range(1, 12)}
        report = validate("transactions", stage({**weeks, DAY - 2 * WEEK: 1, DAY: 60}), small)
        assert report.success
        history = [result for result in report.warned if result.check.name == "unusual_history"]
        assert "2011-08-17 has 1 lines" in history[0].message
        report = validate("transactions", stage({**weeks, DAY: 1}), small)
        assert list(failed(report)) == ["transactions.impossible_volume"]

    def test_a_week_without_lines_stops_the_run(self, lake: Lake, small: Settings, stage: Stage) -> None:
        publish(lake, stage({DAY - WEEK: 50, DAY - timedelta(days=1): 0}))
        message = failed(validate("transactions", stage({DAY: 0}), small))["transactions.impossible_volume"]
        assert message.startswith("2011-08-31 is the 7th day in a row without a line: not published")

    def test_six_days_without_lines_do_not(self, lake: Lake, small: Settings, stage: Stage) -> None:
        publish(lake, stage({DAY - WEEK: 50, DAY - timedelta(days=6): 50, DAY - timedelta(days=1): 0}))
        assert validate("transactions", stage({DAY: 0}), small).success


def test_rejected_lines_beyond_their_share_warn(lake: Lake, small: Settings, stage: Stage) -> None:
    attempt = new_attempt()
    rejected = pa.Table.from_pylist(
        [{"source": "s", "source_row": row, "rule": "price", "run_id": "r", "event_date": DAY} for row in range(20)],
        schema=TABLES["quarantine"].schema,
    )
    stage_days(lake, "quarantine", attempt, [(DAY, rejected)])
    quarantine = seal(lake, "quarantine", attempt, start=DAY, end=DAY, transform="test/1")
    staged = StagedSet("transactions", DAY, DAY, DAY, (stage({DAY: 180}), quarantine))
    report = validate("transactions", staged, small)
    assert report.success
    found = {result.check.key: result.observed for result in report.warned}
    assert found["transactions.quarantined"] == pytest.approx(0.1)


class TestSources:
    """What the tasks hand on can be checked as it is."""

    @pytest.mark.parametrize("form", ["set", "summary", "manifest", "part"])
    def test_staged(self, lake: Lake, small: Settings, stage: Stage, without_expectations: None, form: str) -> None:
        part = stage({DAY: 40})
        staged = StagedSet("transactions", DAY, DAY, DAY, (part,))
        summary = staged.save(lake)
        sources: dict[str, Any] = {"set": staged, "summary": summary, "manifest": summary["manifest"], "part": part}
        report = validate("transactions", sources[form], small)
        assert report.rows == {"transactions": 40}
        assert report.folder.name == contents(suite("transactions", small), staged, lake).digest[:16]

    @pytest.mark.parametrize("form", ["folder", "path", "files"])
    def test_a_training_set(self, write: Write, small: Settings, without_expectations: None, form: str) -> None:
        files = [file for paths in write(training_frames()).values() for file in paths]
        folder = Path(files[0]).parent
        sources: dict[str, Any] = {"folder": {"folder": str(folder), "digest": "d"}, "path": folder, "files": files}
        report = validate("training_set", sources[form], small)
        assert report.rows == {"train": 40, "inner": 40, "holdout": 40}

    def test_nothing_of_the_suite_is_refused(self, write: Write, small: Settings) -> None:
        with pytest.raises(DataQualityError, match=r"suite features checks daily_customer, .* was given train, inner"):
            validate("features", write(training_frames()), small)


def test_an_expectation_that_vanished_has_failed(
    outcome: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Great Expectations leaves some out when they fail to run; a warning that vanished stops the run too."""
    real = expectations.run

    def loses_one(*arguments: Any, **named: Any) -> dict[str, Outcome]:
        outcomes = real(*arguments, **named)
        del outcomes["transactions.cancellations"]
        return outcomes

    assert outcome("transactions", {"transactions": lines()}).success
    monkeypatch.setattr(expectations, "run", loses_one)
    report = outcome("transactions", {"transactions": lines(210)})
    assert list(failed(report)) == ["transactions.cancellations"]
    assert "it is not among the results" in failed(report)["transactions.cancellations"]
    assert failed(report)["transactions.cancellations"] in caplog.text


def test_the_error_names_expectation_observed_and_limit_in_one_line(outcome: Run) -> None:
    frame = lines()
    frame.loc[0, "amount_minor"] = 1
    frame["country"] = frame["country"].where(frame.index > 5, None)
    frame.loc[1, "product_id"] = " "
    report = outcome("transactions", {"transactions": frame})
    with pytest.raises(DataQualityError) as stopped:
        report.raise_if_failed()
    assert str(stopped.value) == (
        "transactions: blank_keys (a blank key is no key) is 1, allowed is exactly 0; "
        f"2 more of 23 expectations failed. Nothing was published. All checks: {report.page_path}"
    )


def test_the_report_is_kept(outcome: Run, settings: Settings) -> None:
    report = outcome("transactions", {"transactions": lines()})
    assert report.folder == settings.home_path / "reports" / "quality" / "transactions" / "test"
    assert report.docs_path.read_text().count("transactions") > 2
    assert "unit_price" in report.page_path.read_text()
    kept = json.loads((report.folder / "report.json").read_text())
    assert kept["success"] is True
    assert {entry["check"] for entry in kept["results"]} == {
        check.key for check in suite("transactions", settings).checks
    }
    assert read_report(settings, "transactions", "test") == kept
    assert read_report(settings, "transactions", "another") is None
    summary = report.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["checks"] == 23
    size = sum(file.stat().st_size for file in report.folder.rglob("*") if file.is_file())
    assert size < 2_500_000, "a report a run: keep it small"


def test_no_temporary_site_is_left_behind(outcome: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    outcome("training_set", training_frames())
    assert list(scratch.iterdir()) == []


class TestSample:
    LIMIT = 2000

    @pytest.fixture
    def rows(self, write: Write, lake: Lake, small: Settings) -> Rows:
        big = pd.concat([lines(6000, DAY), lines(30, DAY - WEEK), lines(5000, DAY - 2 * WEEK)])
        return Rows(contents(suite("transactions", small), write({"transactions": big}), lake))

    def test_it_is_about_the_limit_and_keeps_small_days_whole(self, rows: Rows) -> None:
        sample = rows.frame(rows.sample("transactions", by="event_date", limit=self.LIMIT, seed=1))
        assert len(sample) == pytest.approx(self.LIMIT, rel=0.1)
        by_day = sample.groupby("event_date").size()
        assert by_day[pd.Timestamp(DAY - WEEK)] == 30
        assert by_day[pd.Timestamp(DAY)] / by_day[pd.Timestamp(DAY - 2 * WEEK)] == pytest.approx(6 / 5, rel=0.15)
        assert set(sample.columns) == set(TABLES["transactions"].schema.names)

    def test_a_seed_gives_the_same_rows(self, rows: Rows) -> None:
        first, again, other = (
            rows.frame(rows.sample("transactions", by="event_date", limit=self.LIMIT, seed=seed)) for seed in (1, 1, 2)
        )
        key = ["event_date", "invoice_id", "product_id", "event_time"]

        def order(frame: pd.DataFrame) -> np.ndarray:
            return frame.sort_values(key)[key].to_numpy()

        assert np.array_equal(order(first), order(again))
        assert not np.array_equal(order(first), order(other))

    def test_few_rows_are_read_whole(self, rows: Rows) -> None:
        assert rows.sample("transactions", by="event_date", limit=20_000, seed=1) == "transactions"


def test_a_large_table_is_profiled_by_its_sample(
    write: Write, monkeypatch: pytest.MonkeyPatch, without_expectations: None
) -> None:
    monkeypatch.setenv("EVERGREEN__QUALITY__SAMPLE_ROWS", "1000")
    report = validate("transactions", write({"transactions": lines(5000)}), load_settings("local"), run_id="r")
    table = json.loads((report.folder / "profile.json").read_text())["tables"]["transactions"]
    assert table["rows"] == 5000
    assert table["read_rows"] == pytest.approx(1000, rel=0.15)
    assert "5,000 rows, figures of a sample of" in report.page_path.read_text()


def test_days_beyond_the_covered_ones_are_not_history(
    lake: Lake, small: Settings, stage: Stage, without_expectations: None
) -> None:
    """Later days say nothing of an earlier one: a corrected day is compared with what came before it."""
    after = {DAY + WEEK * week: 5 for week in range(1, 9)}
    before = {DAY - WEEK * week: 100 for week in range(1, 9)}
    publish(lake, stage({**before, **after}))
    report = validate("transactions", stage({DAY: 5}), small)
    observed = {result.check.name: result.observed for result in report.results}
    assert observed["impossible_volume"] == 1


def test_the_day_before_the_first_has_no_verdict(small: Settings, stage: Stage, without_expectations: None) -> None:
    report = validate("transactions", stage({date(2009, 12, 1): 3}), small)
    observed = {result.check.name: result.observed for result in report.results}
    assert observed["impossible_volume"] == 0
