"""SIGKILL in the middle of a search: it goes on where it was, and proposes what it would have proposed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from evergreen.settings import load_settings
from evergreen.training.search.outcome import search_folder
from tests.searches import ENVIRONMENT, TRIALS, kill_after, lines_of, start, told_of, trials_of
from tests.weekly_set import make_set

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    make_set(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return trials_of(lines_of(start(training_set, tmp_path_factory.mktemp("undisturbed")))[-1])


def test_a_killed_search_goes_on_where_it_was(training_set, undisturbed, tmp_path):
    for _ in range(2):  # killed twice, some trials apart
        kill_after(start(training_set, tmp_path), 2)
    lines = lines_of(start(training_set, tmp_path))
    told = told_of(lines)
    assert len(told) <= TRIALS - 4  # what had ended was not judged again
    assert told[-1].startswith(f"trial {TRIALS} of {TRIALS}")
    assert trials_of(lines[-1]) == undisturbed


def test_without_its_storage_it_begins_anew(training_set, undisturbed, tmp_path, monkeypatch):
    """Control: the storage is what it goes on from."""
    kill_after(start(training_set, tmp_path), 4)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    (search_folder(load_settings(), "xgboost") / "studies.db").unlink()
    lines = lines_of(start(training_set, tmp_path))
    assert len(told_of(lines)) == TRIALS
    assert trials_of(lines[-1]) == undisturbed


def test_workers_end_with_a_killed_search(training_set, tmp_path, monkeypatch):
    """A process that waits for work for ever would keep its memory."""
    monkeypatch.setitem(ENVIRONMENT, "EVERGREEN__TRAINING__SEARCH__PARALLEL", "2")
    search = start(training_set, tmp_path)
    assert search.stdout is not None
    assert search.stdout.readline().startswith("trial ")
    assert len(processes_of(tmp_path)) >= 3  # control: the workers are seen
    os.kill(search.pid, signal.SIGKILL)
    search.wait()
    until = time.monotonic() + 60
    while (left := processes_of(tmp_path)) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


def processes_of(home: Path) -> list[int]:
    """Living processes that were started with this home."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            inherited = file.read_bytes().split(b"\0")
        except OSError:  # it ended, or is somebody else's
            continue
        if f"EVERGREEN_HOME={home}".encode() in inherited:
            found.append(int(file.parent.name))
    return found
