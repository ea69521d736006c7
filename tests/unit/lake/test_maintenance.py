from __future__ import annotations

import os
from datetime import date

import pytest
from deltalake import DeltaTable

from evergreen.errors import LakeError
from evergreen.lake import maintenance
from evergreen.lake.maintenance import vacuum
from evergreen.lake.publish import KEEP_LOG, publish
from evergreen.lake.table import PARTITION

MONDAY, TUESDAY = date(2011, 8, 29), date(2011, 8, 30)


def test_a_second_vacuum_finds_nothing_and_makes_no_version(empty_lake, stage):
    """A new version without new rows would make what is derived from the table look old."""
    for rows in (1, 2):
        publish(empty_lake, stage({MONDAY: ("a", rows)}))
    before = empty_lake.versions()
    assert vacuum(empty_lake, {}, retention_days=0, dry_run=True)["quarantine"] == 3  # a file, two notes
    assert empty_lake.versions() == before
    assert vacuum(empty_lake, {}, retention_days=0)["quarantine"] == 3
    after = empty_lake.versions()
    assert vacuum(empty_lake, {}, retention_days=0) == {"quarantine": 0}
    assert empty_lake.versions() == after
    assert empty_lake.table("quarantine").read().num_rows == 2


def test_an_attempt_under_way_is_left_alone(empty_lake, stage):
    publish(empty_lake, stage({MONDAY: ("a", 1)}))
    staged = stage({TUESDAY: ("b", 1)})
    assert vacuum(empty_lake, {}, retention_days=1) == {"quarantine": 0}
    publish(empty_lake, staged)
    assert empty_lake.table("quarantine").read().num_rows == 2


def test_empty_folders_of_old_attempts_go_too(empty_lake, stage):
    for rows in (1, 2):
        publish(empty_lake, stage({MONDAY: ("a", rows)}))
    vacuum(empty_lake, {}, retention_days=0)
    attempts = list((empty_lake.table("quarantine").root / "staging").iterdir())
    assert len(attempts) == 1


def test_pins_beyond_the_newest_version_do_no_harm(empty_lake, stage):
    publish(empty_lake, stage({MONDAY: ("a", 1)}))
    assert "quarantine" in vacuum(empty_lake, {"quarantine": [99], "unknown": [1]}, retention_days=0)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("made_with", "wanted", "readable"),
    [(KEEP_LOG, KEEP_LOG, True), ({}, KEEP_LOG, True), ({}, {}, False)],
    ids=["ours", "a table made before", "control"],
)
def test_old_versions_stay_readable_after_many_commits_and_months(
    empty_lake, stage, monkeypatch, made_with, wanted, readable
):
    """By default delta-rs forgets versions from before the last checkpoint once their log entries are 30 days old."""
    monkeypatch.setattr(maintenance, "KEEP_LOG", wanted)
    table = empty_lake.table("quarantine")
    every_third = {"delta.checkpointInterval": "3", **made_with}  # not every hundredth: the test would take a minute
    DeltaTable.create(table.root, table.spec.schema, partition_by=[PARTITION], configuration=every_third)
    for rows in range(1, 12):
        publish(empty_lake, stage({MONDAY: ("a", rows)}))
        for entry in (table.root / "_delta_log").iterdir():
            os.utime(entry, (0, 0))
    vacuum(empty_lake, {"quarantine": [2]}, retention_days=0)
    if readable:
        assert empty_lake.table("quarantine", 2).read().num_rows == 2
    else:
        with pytest.raises(LakeError, match=r"has no version 2|does not exist yet"):
            empty_lake.table("quarantine", 2).read()


def test_tables_are_made_to_keep_their_log(empty_lake, stage):
    publish(empty_lake, stage({MONDAY: ("a", 1)}))
    assert DeltaTable(empty_lake.table("quarantine").root).metadata().configuration == KEEP_LOG
