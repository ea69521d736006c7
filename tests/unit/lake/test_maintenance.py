from __future__ import annotations

from datetime import date

from evergreen.lake.maintenance import vacuum
from evergreen.lake.publish import publish

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
