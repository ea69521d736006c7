"""Publishing under kills and races: never a partial day, never two writers' rows together."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from evergreen.errors import PublishRefusedError
from evergreen.lake import Lake, Staged, publish, seal, stage_days
from evergreen.lake import publish as publish_function
from evergreen.lake.staging import begin, new_attempt

publishing = sys.modules[publish_function.__module__]
MUST_FAIL = pytest.mark.xfail(strict=True, reason="control: delta-rs's own retries let both writers through")
DAY = date(2011, 8, 31)
DAYS = [date(2011, 8, day) for day in range(1, 11)]


def rows_of(rule: str, rows: int) -> pa.Table:
    columns = [["drop"] * rows, list(range(rows)), [rule] * rows, [""] * rows, ["{}"] * rows, ["test"] * rows]
    return pa.table(columns, schema=Lake("x").table("quarantine").spec.file_schema)


def staged(lake: Lake, rule: str, rows: int, days: list[date]) -> Staged:
    attempt = new_attempt()
    begin(lake, "quarantine", attempt)
    stage_days(lake, "quarantine", attempt, ((day, rows_of(rule, rows)) for day in days))
    return seal(lake, "quarantine", attempt, start=days[0], end=days[-1], transform="test/1")


def retrying_commit_properties(**arguments):
    """The broken variant: as if `max_commit_retries=0` had been forgotten."""
    arguments.pop("max_commit_retries")
    return deltalake.CommitProperties(**arguments)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("existing", "properties"),
    [
        pytest.param(False, deltalake.CommitProperties, id="new-day"),
        pytest.param(True, deltalake.CommitProperties, id="existing-day"),
        pytest.param(False, retrying_commit_properties, id="control-new-day", marks=MUST_FAIL),
    ],
)
def test_two_writers_of_one_day_leave_the_rows_of_one(tmp_path, monkeypatch, existing, properties):
    """Both have read the log before either commits: the worst moment, made to happen by a barrier."""
    lake = Lake(tmp_path)
    publish(lake, staged(lake, "other day", 2, DAYS[:1]))
    if existing:
        publish(lake, staged(lake, "old", 1, [DAY]))
    attempts = [staged(lake, "one", 10, [DAY]), staged(lake, "two", 7, [DAY])]
    both_are_ready = threading.Barrier(2)
    first_commits = iter([True, True])

    class MeetingDeltaTable(deltalake.DeltaTable):
        def create_write_transaction(self, *args, **kwargs):
            if next(first_commits, False):
                both_are_ready.wait(timeout=30)
            super().create_write_transaction(*args, **kwargs)

    monkeypatch.setattr(publishing, "DeltaTable", MeetingDeltaTable)
    monkeypatch.setattr(publishing, "CommitProperties", properties)

    def outcome(attempt: Staged) -> str:
        try:
            publish(lake, attempt)
        except PublishRefusedError:
            return "refused"
        return "published"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(outcome, attempts))
    assert outcomes == ["published", "refused"]
    assert lake.table("quarantine").read(DAY, DAY).num_rows in (10, 7)


PUBLISH_FOREVER = """
import sys
from evergreen.lake import Lake, Staged, publish
lake = Lake(sys.argv[1])
manifests = sys.argv[2:]
while True:
    for manifest in manifests:
        staged = Staged.load(manifest)
        now = lake.table("quarantine").digests
        publish(lake, Staged(**{**staged.__dict__, "base": {d: g for d, g in now.items() if d in staged.digests}}))
        print("committed", flush=True)
"""


@pytest.mark.fault
def test_sigkill_at_50_random_moments_never_shows_a_partial_day(tmp_path: Path):
    """A process that swaps ten days between two contents is killed again and again: readers see one or the other."""
    lake = Lake(tmp_path / "lake")
    old, new = staged(lake, "old", 3, DAYS), staged(lake, "new", 5, DAYS)
    whole = {tuple(old.digests.items()), tuple(new.digests.items())}
    manifests = [str(old.save(tmp_path / "old.json")), str(new.save(tmp_path / "new.json"))]
    publish(lake, old)
    chance = random.Random(50)
    versions = set()
    for _ in range(50):
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISH_FOREVER, str(lake.root), *manifests],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        process.stdout.readline()  # commits are being made now, however slow the machine is
        threading.Event().wait(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        table = lake.table("quarantine")
        versions.add(table.version)
        assert tuple(table.digests.items()) in whole
        assert table.read().num_rows in (30, 50)
    assert len(versions) > 10  # the kills came while commits were being made, not before the first one

    current = lake.table("quarantine").digests
    publish(lake, Staged(**{**new.__dict__, "base": current}))
    assert lake.table("quarantine").digests == new.digests  # the re-run gives the same digests
