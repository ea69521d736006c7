"""One commit publishes; the same content publishes nothing; conflicts are refused."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import pytest

from evergreen.errors import LakeError, PublishRefusedError
from evergreen.lake import Staged, latest_release, publish, release, seal, stage_days
from evergreen.lake.maintenance import vacuum
from evergreen.lake.releases import releases
from evergreen.lake.staging import begin, discard, new_attempt
from tests.unit.lake.conftest import lines

MONDAY, TUESDAY, WEDNESDAY = date(2011, 8, 29), date(2011, 8, 30), date(2011, 8, 31)


def test_a_published_day_is_read_back(empty_lake, stage):
    published = publish(empty_lake, stage({MONDAY: ("a", 3)}))
    assert published.changed_days == (MONDAY,)
    rows = empty_lake.table("quarantine").read()
    assert rows.num_rows == 3
    assert rows["event_date"].to_pylist() == [MONDAY] * 3


def test_the_same_content_publishes_nothing(empty_lake, stage):
    first = publish(empty_lake, stage({MONDAY: ("a", 3)}))
    again = publish(empty_lake, stage({MONDAY: ("a", 3)}))
    assert again.unchanged
    assert again.version == first.version


def test_a_correction_replaces_its_day_alone_and_old_versions_stay(empty_lake, stage):
    before = publish(empty_lake, stage({MONDAY: ("a", 3), TUESDAY: ("a", 4)}))
    after = publish(empty_lake, stage({MONDAY: ("b", 2)}))
    assert after.changed_days == (MONDAY,)
    assert empty_lake.table("quarantine").rows == 6
    assert empty_lake.table("quarantine", before.version).rows == 7


def test_a_covered_day_without_rows_is_removed_unless_it_is_marked_empty(empty_lake, stage):
    publish(empty_lake, stage({MONDAY: ("a", 3), TUESDAY: ("a", 4)}))
    published = publish(empty_lake, stage({TUESDAY: ("a", 4)}, start=MONDAY))
    assert published.changed_days == (MONDAY,)
    assert empty_lake.table("quarantine").days() == [TUESDAY]

    attempt = new_attempt()
    begin(empty_lake, "quarantine", attempt)
    empty = seal(empty_lake, "quarantine", attempt, start=MONDAY, end=WEDNESDAY, transform="test/1", mark_empty=True)
    publish(empty_lake, empty)
    assert empty_lake.table("quarantine").days() == [MONDAY, TUESDAY, WEDNESDAY]
    assert empty_lake.table("quarantine").read().num_rows == 0


def test_an_attempt_made_from_what_is_gone_is_refused(empty_lake, stage):
    mine, theirs = stage({MONDAY: ("mine", 3)}), stage({MONDAY: ("theirs", 5)})
    publish(empty_lake, theirs)
    with pytest.raises(PublishRefusedError, match="quarantine of 2011-08-29: another writer published digest"):
        publish(empty_lake, mine)
    assert empty_lake.table("quarantine").rows == 5


def test_the_base_is_what_stood_when_the_attempt_began(empty_lake, stage):
    attempt = new_attempt()
    begin(empty_lake, "quarantine", attempt)
    publish(empty_lake, stage({MONDAY: ("theirs", 5)}))
    late = seal(empty_lake, "quarantine", attempt, start=MONDAY, end=MONDAY, transform="test/1")
    assert late.base == {}


def test_commits_of_other_days_in_between_are_no_conflict(empty_lake, stage):
    mine, theirs = stage({MONDAY: ("mine", 3)}), stage({TUESDAY: ("theirs", 5)})
    publish(empty_lake, theirs)
    publish(empty_lake, mine)
    assert empty_lake.table("quarantine").rows == 8


def test_a_staged_manifest_survives_its_file(tmp_path: Path, stage):
    staged = stage({MONDAY: ("a", 3), TUESDAY: ("b", 1)})
    loaded = Staged.load(staged.save(tmp_path / "manifest.json"))
    assert loaded == staged
    assert loaded.changed_days == [MONDAY, TUESDAY]
    assert loaded.digest == staged.digest


def test_days_that_an_attempt_does_not_cover_stay_as_they_are(empty_lake, stage):
    """Snapshots are made for single days: those in between are neither checked nor removed."""
    publish(empty_lake, stage({MONDAY: ("a", 3), TUESDAY: ("a", 4), WEDNESDAY: ("a", 5)}))
    attempt = new_attempt()
    begin(empty_lake, "quarantine", attempt)
    stage_days(empty_lake, "quarantine", attempt, [(WEDNESDAY, lines("b", 1))])
    sparse = seal(
        empty_lake, "quarantine", attempt, start=MONDAY, end=WEDNESDAY, transform="test/1", only=[WEDNESDAY, MONDAY]
    )
    assert sparse.only == (MONDAY, WEDNESDAY)
    assert [day for day in (MONDAY, TUESDAY, WEDNESDAY) if sparse.covers(day)] == [MONDAY, WEDNESDAY]
    assert set(sparse.base) == {MONDAY, WEDNESDAY}
    assert sparse.changed_days == [MONDAY, WEDNESDAY]  # Monday is covered and has no rows: it goes
    published = publish(empty_lake, Staged.from_document(sparse.document()))
    assert published.changed_days == (MONDAY, WEDNESDAY)
    assert {file.day: file.rows for file in empty_lake.table("quarantine").files} == {TUESDAY: 4, WEDNESDAY: 1}


def test_an_uncovered_day_that_another_writer_changed_is_no_conflict(empty_lake, stage):
    attempt = new_attempt()
    begin(empty_lake, "quarantine", attempt)
    publish(empty_lake, stage({TUESDAY: ("theirs", 2)}))
    sparse = seal(
        empty_lake, "quarantine", attempt, start=MONDAY, end=WEDNESDAY, transform="test/1", only=[MONDAY, WEDNESDAY],
        mark_empty=True,
    )  # fmt: skip
    assert publish(empty_lake, sparse).changed_days == (MONDAY, WEDNESDAY)
    assert empty_lake.table("quarantine").days() == [MONDAY, TUESDAY, WEDNESDAY]
    assert empty_lake.table("quarantine").rows == 2


def test_an_attempt_that_covers_no_day_changes_nothing(empty_lake, stage):
    publish(empty_lake, stage({MONDAY: ("a", 3)}))
    nothing = seal(
        empty_lake, "quarantine", new_attempt(), start=MONDAY, end=MONDAY, transform="test/1", only=[], mark_empty=True
    )
    assert (nothing.only, nothing.files, dict(nothing.base)) == ((), (), {})
    assert publish(empty_lake, nothing).unchanged
    assert empty_lake.table("quarantine").rows == 3


def test_what_was_published_is_not_discarded(empty_lake, stage):
    staged = stage({MONDAY: ("a", 3)})
    publish(empty_lake, staged)
    discard(empty_lake, "quarantine", staged.attempt)
    assert empty_lake.table("quarantine").read().num_rows == 3


def test_a_release_that_could_not_be_published_takes_its_row_along(empty_lake, monkeypatch):
    def refused(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules[release.__module__], "publish", refused)
    with pytest.raises(OSError, match="No space"):
        release(empty_lake, "features", day=MONDAY, digest="d", versions={}, inputs={})
    assert list((empty_lake.root / "releases" / "staging").iterdir()) == []


def test_staged_rows_are_invisible_and_can_be_discarded(empty_lake, stage):
    staged = stage({MONDAY: ("a", 3)})
    assert empty_lake.table("quarantine").version is None
    assert [Path(path).exists() for path in staged.paths(empty_lake)] == [True]
    discard(empty_lake, "quarantine", staged.attempt)
    assert [Path(path).exists() for path in staged.paths(empty_lake)] == [False]


def test_unknown_tables_and_versions_are_named(empty_lake, stage):
    with pytest.raises(LakeError, match="table 'sales' is unknown, must be one of: transactions"):
        empty_lake.table("sales")
    with pytest.raises(LakeError, match="quarantine has no version 3"):
        _ = empty_lake.table("quarantine", 3).files
    publish(empty_lake, stage({MONDAY: ("a", 1)}))
    with pytest.raises(LakeError, match="quarantine has no version 9"):
        _ = empty_lake.table("quarantine", 9).files


def test_vacuum_keeps_what_is_pinned(empty_lake, stage):
    versions = [publish(empty_lake, stage({MONDAY: ("a", rows)})).version for rows in (1, 2, 3)]
    orphan = stage({TUESDAY: ("never published", 1)})
    removed = vacuum(empty_lake, {"quarantine": [versions[0]]}, retention_days=0)
    assert removed["quarantine"] >= 2
    assert empty_lake.table("quarantine", versions[0]).read().num_rows == 1
    assert empty_lake.table("quarantine").read().num_rows == 3
    assert not Path(orphan.paths(empty_lake)[0]).exists()
    with pytest.raises(FileNotFoundError):
        empty_lake.table("quarantine", versions[1]).read()


def test_a_release_is_recorded_once(empty_lake):
    arguments = {"day": MONDAY, "digest": "d1", "versions": {"quarantine": 1}, "inputs": {"source": "x"}}
    first = release(empty_lake, "features", **arguments)
    assert release(empty_lake, "features", **arguments) == first
    second = release(empty_lake, "features", **{**arguments, "digest": "d2"})
    assert second.sequence == 2
    release(empty_lake, "transactions", **arguments)
    assert [entry.digest for entry in releases(empty_lake, "features")] == ["d1", "d2"]
    assert latest_release(empty_lake, "features") == second
    assert latest_release(empty_lake, "nothing") is None
