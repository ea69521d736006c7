from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from evergreen.errors import PlatformError
from evergreen.platform import retention
from evergreen.platform.airflow import LocalAirflow
from evergreen.platform.retention import (
    Removed,
    clean_history,
    days_ago,
    history_is_here,
    remove_leftovers,
    remove_logs,
    remove_manifests,
)


def written(path: Path, days: float) -> Path:
    """A file last written so many days ago; the folders that it is in too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 10)
    moment = days_ago(0).timestamp() - days * 86_400
    for one in (path, path.parent):
        os.utime(one, (moment, moment))
    return path


def test_what_killed_tasks_left_goes_and_what_is_whole_stays(settings, home):
    gone = [
        written(home / "training_sets" / ".draft.1" / "train.parquet", 3).parent,
        written(home / "models" / ".abc.1" / "manifest.json", 3).parent,
        written(home / "models" / "trained" / "unfinished" / "spec.json", 3).parent,
        written(home / "evidence" / ".abc.json.x", 3),
    ]
    whole = [
        written(home / "training_sets" / "abc" / "train.parquet", 99),
        written(home / "models" / "abc" / "manifest.json", 99),
        written(home / "models" / "trained" / "finished" / "result.json", 99),
        written(home / "evidence" / "abc.json", 99),
    ]
    young = written(home / "training_sets" / ".draft.2" / "train.parquet", 1)
    assert remove_leftovers(settings, days_ago(2), dry_run=True).count == 4
    assert all(path.exists() for path in gone)
    removed = remove_leftovers(settings, days_ago(2))
    assert removed.count == 4
    assert removed.size_bytes >= 40
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (*whole, young))
    assert remove_leftovers(settings, days_ago(2)) == Removed()


def test_a_draft_that_is_still_written_to_is_young(settings, home):
    old = written(home / "models" / "trained" / "key" / "spec.json", 9)
    new = written(home / "models" / "trained" / "key" / ".bundle.1" / "model.ubj", 0)
    os.utime(old.parent, (0, 0))
    assert remove_leftovers(settings, days_ago(2)).count == 0
    assert new.exists()


def test_old_logs_go_with_the_folders_that_they_leave_empty(settings, home):
    old = written(home / "logs" / "tasks" / "dag_id=a" / "run_id=1" / "attempt=1.log", 61)
    new = written(home / "logs" / "tasks" / "dag_id=a" / "run_id=2" / "attempt=1.log", 1)
    service = written(home / "logs" / "airflow-scheduler.log", 99)
    assert remove_logs(settings, days_ago(60)).count == 1
    assert not old.parent.exists()
    assert new.exists()
    assert service.exists(), "a running process writes to it"


def test_notes_of_staged_days_go_when_their_files_may(settings):
    old = written(settings.lake_path / "staging" / "a.json", 31)
    new = written(settings.lake_path / "staging" / "b.json", 29)
    assert remove_manifests(settings, days_ago(30)).count == 1
    assert (old.exists(), new.exists()) == (False, True)


COUNTED = "Checking table dag_run\nFound {} rows meeting deletion criteria.\nFound {} rows meeting deletion criteria.\n"


@pytest.mark.parametrize(
    ("found", "dry_run", "commands"),
    [(4, False, ["--dry-run", "--yes"]), (4, True, ["--dry-run"]), (0, False, ["--dry-run"])],
)
def test_records_are_counted_and_then_removed(settings, monkeypatch, found, dry_run, commands):
    asked: list[list[str]] = []

    def output(self: LocalAirflow, arguments: list[str]) -> str:
        asked.append(arguments)
        return COUNTED.format(found, found)

    monkeypatch.setattr(LocalAirflow, "output", output)
    before = days_ago(180)
    assert clean_history(settings, before, dry_run=dry_run) == Removed(2 * found)
    assert [arguments[-1] for arguments in asked] == commands
    assert asked[0][:4] == ["db", "clean", "--clean-before-timestamp", before.isoformat()]


def test_airflow_says_why_it_failed(settings, monkeypatch, tmp_path):
    program = tmp_path / "airflow"
    program.write_text("#!/bin/sh\necho begin\necho 'database is locked' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr("evergreen.platform.airflow._airflow", lambda: str(program))
    with pytest.raises(PlatformError, match=r"^airflow db clean ended with code 3: database is locked$"):
        clean_history(settings, days_ago(180))


def test_records_elsewhere_are_not_reached(settings):
    assert not history_is_here(settings)
    written(LocalAirflow(settings).home / "airflow.db", 0)
    assert history_is_here(settings)


def test_days_ago_counts_back_from_now():
    assert abs(days_ago(1) + timedelta(days=1) - retention.datetime.now(retention.UTC)) < timedelta(minutes=1)
