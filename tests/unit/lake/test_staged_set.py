"""A set of tables is published table by table and released as one state."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pytest

import evergreen.lake.staged_set as staged_set_module
from evergreen.errors import LakeError, PublishRefusedError
from evergreen.lake import Lake, StagedSet, begin, latest_release, publish_set, seal, stage_days
from evergreen.lake.releases import releases
from evergreen.lake.staging import new_attempt

MONDAY, TUESDAY, WEDNESDAY = date(2011, 8, 1), date(2011, 8, 2), date(2011, 8, 3)


def transactions(invoices: list[str]) -> pa.Table:
    schema = Lake("x").table("transactions").spec.file_schema
    return pa.Table.from_pylist([{"invoice_id": invoice} for invoice in invoices], schema=schema)


def rejected(rule: str, run_id: str = "run") -> pa.Table:
    schema = Lake("x").table("quarantine").spec.file_schema
    return pa.Table.from_pylist([{"source": "s", "source_row": 1, "rule": rule, "run_id": run_id}], schema=schema)


def stage(
    lake: Lake,
    days: dict[date, list[str]],
    quarantined: dict[date, str] | None = None,
    run_id: str = "run",
    **inputs: Any,
) -> StagedSet:
    attempt = new_attempt()
    for table in ("transactions", "quarantine"):
        begin(lake, table, attempt)
    stage_days(lake, "transactions", attempt, ((day, transactions(rows)) for day, rows in days.items()))
    stage_days(
        lake, "quarantine", attempt, ((day, rejected(rule, run_id)) for day, rule in (quarantined or {}).items())
    )
    start, end = min(days), max(days)
    parts = tuple(
        seal(lake, table, attempt, start=start, end=end, transform="test/1") for table in ("transactions", "quarantine")
    )
    return StagedSet("transactions", end, start, end, parts, inputs, {"in": sum(map(len, days.values()))})


def test_a_saved_set_is_read_back_equal(lake: Lake) -> None:
    staged = stage(lake, {MONDAY: ["1", "2"], TUESDAY: []}, {MONDAY: "rule"}, source="file.csv")
    summary = staged.save(lake)
    assert StagedSet.load(summary["manifest"]) == staged
    assert summary == {
        "manifest": str(lake.root / "staging" / f"{staged.attempt}.json"),
        "name": "transactions",
        "day": "2011-08-02",
        "start": "2011-08-01",
        "end": "2011-08-02",
        "digest": staged.digest,
        "rows": 3,
        "changed_days": 2,
        "counts": {"in": 2},
    }
    with pytest.raises(LakeError, match="no staged set at"):
        StagedSet.load(lake.root / "staging" / "other.json")
    with pytest.raises(LakeError, match="nothing was staged for 'features'"):
        staged.part("features")


def test_publishing_releases_the_versions_and_again_changes_nothing(lake: Lake) -> None:
    staged = stage(lake, {MONDAY: ["1", "2"], TUESDAY: ["3"]}, {TUESDAY: "rule"})
    first = publish_set(lake, staged, run_id="a")
    assert first["earliest_changed"] == "2011-08-01"
    assert (first["changed_days"], first["rows"], first["unchanged"], first["release"]) == (2, 4, False, 1)
    newest = latest_release(lake, "transactions")
    assert newest is not None
    assert newest.day == TUESDAY
    assert dict(newest.versions) == first["versions"] == {"transactions": 1, "quarantine": 1}

    for again in (staged, stage(lake, {MONDAY: ["2", "1"], TUESDAY: ["3"]}, {TUESDAY: "rule"}, run_id="another")):
        second = publish_set(lake, again, run_id="b")
        assert second == first | {"unchanged": True, "changed_days": 0, "rows": 0, "earliest_changed": None}
    assert len(releases(lake, "transactions")) == 1
    assert lake.table("quarantine").read()["run_id"].to_pylist() == ["run"]  # the run that rejected it first


def test_running_an_old_day_again_adds_no_release(lake: Lake) -> None:
    old = stage(lake, {MONDAY: ["1"]})
    publish_set(lake, old)
    publish_set(lake, stage(lake, {TUESDAY: ["2"]}))
    assert publish_set(lake, stage(lake, {MONDAY: ["1"]}))["unchanged"]
    assert len(releases(lake, "transactions")) == 2


def test_a_corrected_day_is_the_earliest_changed_and_the_release_keeps_its_newest_day(lake: Lake) -> None:
    publish_set(lake, stage(lake, {MONDAY: ["1"], TUESDAY: ["2"], WEDNESDAY: ["3"]}))
    result = publish_set(lake, stage(lake, {TUESDAY: ["2", "late"]}))
    assert (result["earliest_changed"], result["changed_days"], result["rows"]) == ("2011-08-02", 1, 2)
    newest = latest_release(lake, "transactions")
    assert newest is not None
    assert (newest.day, newest.sequence) == (WEDNESDAY, 2)


def test_daily_and_bulk_release_the_same_digest(tmp_path: Any) -> None:
    bulk, daily = Lake(tmp_path / "bulk"), Lake(tmp_path / "daily")
    days = {MONDAY: ["1"], TUESDAY: [], WEDNESDAY: ["3"]}
    whole = publish_set(bulk, stage(bulk, days, {TUESDAY: "rule"}, run_id="bulk"))
    for day, rows in days.items():
        last = publish_set(daily, stage(daily, {day: rows}, {day: "rule"} if day == TUESDAY else None, run_id=str(day)))
    assert last["digest"] == whole["digest"]


def test_new_inputs_of_the_same_content_are_released(lake: Lake) -> None:
    publish_set(lake, stage(lake, {MONDAY: ["1"]}, version=1))
    result = publish_set(lake, stage(lake, {MONDAY: ["1"]}, version=2))
    assert (result["unchanged"], result["release"]) == (True, 2)


@pytest.mark.fault
@pytest.mark.parametrize("crash_at", ["quarantine", "release"])
def test_a_crash_between_two_tables_shows_nothing_and_is_completed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    publish_set(lake, stage(lake, {MONDAY: ["1"]}))
    staged = stage(lake, {TUESDAY: ["2"], WEDNESDAY: ["3"]}, {WEDNESDAY: "rule"})
    manifest = staged.save(lake)["manifest"]
    whole = staged_set_module.publish

    def crashing(lake: Lake, part: Any, *, run_id: str = "") -> Any:
        if part.table == crash_at:
            raise KeyboardInterrupt
        return whole(lake, part, run_id=run_id)

    def no_release(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(staged_set_module, "publish", crashing)
        if crash_at == "release":
            patch.setattr(staged_set_module, "release", no_release)
        with pytest.raises(KeyboardInterrupt):
            publish_set(lake, staged)
    pinned = latest_release(lake, "transactions")
    assert pinned is not None
    assert lake.table("transactions", pinned.versions["transactions"]).days() == [MONDAY]

    completed = publish_set(lake, StagedSet.load(manifest))
    assert (completed["earliest_changed"], completed["changed_days"]) == ("2011-08-02", 2)
    assert not completed["unchanged"]
    assert completed["release"] == 2
    assert publish_set(lake, StagedSet.load(manifest))["unchanged"]


@pytest.mark.fault
def test_a_release_by_another_in_between_is_kept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers of two days: whoever releases second releases both days, and no release is lost."""
    ours, theirs = stage(lake, {MONDAY: ["1"]}), stage(lake, {TUESDAY: ["2"]})
    whole = staged_set_module.release
    calls: list[str] = []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append("release")
        if len(calls) == 1:
            publish_set(lake, theirs)
            raise PublishRefusedError("another release came in between")
        return whole(*args, **kwargs)

    monkeypatch.setattr(staged_set_module, "release", interrupted)
    assert not publish_set(lake, ours)["unchanged"]
    newest = latest_release(lake, "transactions")
    assert newest is not None
    assert lake.table("transactions", newest.versions["transactions"]).days() == [MONDAY, TUESDAY]


def test_endless_releases_by_others_are_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PublishRefusedError("another release came in between")

    monkeypatch.setattr(staged_set_module, "release", refuse)
    with pytest.raises(PublishRefusedError, match="20 releases by others"):
        publish_set(lake, stage(lake, {MONDAY: ["1"]}))
