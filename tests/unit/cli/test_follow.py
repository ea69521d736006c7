"""Following a day through the loop: which run belongs to it, when it ends, and what a failure says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from evergreen.cli import follow as following
from evergreen.cli.follow import LOOP, Stage, follow
from evergreen.errors import PlatformError

DAY = date(2011, 8, 31)
BEGUN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def task(task_id: str, state: str | None, map_index: int = -1) -> dict[str, Any]:
    return {"task_id": task_id, "state": state, "duration": 1.5, "map_index": map_index, "try_number": 1}


class Airflow:
    """A scripted Airflow: each DAG has runs, and each look at a run shows its next scene."""

    def __init__(self) -> None:
        self.scenes: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {}
        self.queued: dict[str, datetime] = {}
        self.error = "DataQualityError: missing"

    def script(self, dag_id: str, *scenes: tuple[str, list[dict[str, Any]]], after: float = 1.0) -> Airflow:
        self.scenes[dag_id] = list(scenes)
        self.queued[dag_id] = BEGUN + timedelta(seconds=after)
        return self

    def dag_runs(self, dag_id: str, partition_key: str) -> list[dict[str, Any]]:
        if dag_id not in self.scenes:
            return []
        state, _ = self.scenes[dag_id][0]
        times = {"queued_at": self.queued[dag_id].isoformat(), "start_date": BEGUN.isoformat(), "end_date": None}
        return [{"dag_run_id": f"{dag_id}-run", "partition_key": partition_key, "state": state, **times}]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        scenes = self.scenes[dag_id]
        _, tasks = scenes[0]
        if len(scenes) > 1:
            scenes.pop(0)
        return tasks

    def task_error(self, dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> str:
        return self.error


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(following, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(following, "START_SECONDS", 0.05)
    monkeypatch.setattr(following, "SETTLE_SECONDS", 0.0)


def walk(airflow: Airflow) -> tuple[list[str], list[str]]:
    asked: list[str] = []
    stages = follow(
        airflow,
        DAY,
        "ingest_transactions-run",
        BEGUN,
        on_change=lambda stage: None,
        on_approval=lambda stage: asked.append(stage.dag_id),
    )
    return [stage.dag_id for stage in stages], asked


def whole_loop() -> Airflow:
    airflow = Airflow()
    for dag_id, publishing in LOOP.items():
        airflow.script(dag_id, ("running", [task(publishing, None)]), ("success", [task(publishing, "success")]))
    return airflow


def test_every_stage_is_followed_in_order():
    assert walk(whole_loop()) == (list(LOOP), [])


def test_the_approval_is_asked_once():
    airflow = whole_loop()
    waiting = ("running", [task("approve", "awaiting_input"), task("promote", None)])
    airflow.script("promote_model", waiting, waiting, ("success", [task("promote", "success")]))
    assert walk(airflow) == (list(LOOP), ["promote_model"])


def test_the_approval_is_not_answered_before_airflow_has_noted_the_pause(monkeypatch):
    """The scheduler would take the ended worker for a failure of the task that the answer has queued again."""
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(following, "SETTLE_SECONDS", 5.0)
    monkeypatch.setattr(following.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(following, "START_SECONDS", 1000.0)
    waiting = ("running", [task("approve", "awaiting_input"), task("promote", None)])
    done = ("success", [task("promote", "success")])
    quick = whole_loop().script("promote_model", waiting, done)
    assert walk(quick)[1] == []  # somebody else answered meanwhile
    slow = whole_loop().script("promote_model", waiting, waiting, waiting, waiting, done)
    assert walk(slow)[1] == ["promote_model"]


def test_a_rejected_candidate_still_lets_the_day_be_scored():
    airflow = whole_loop().script("promote_model", ("success", [task("promote", "skipped")]))
    assert walk(airflow)[0] == list(LOOP)


def test_after_a_skipped_publication_nothing_is_waited_for():
    airflow = whole_loop().script("train_candidates", ("success", [task("register", "skipped")]))
    assert walk(airflow)[0] == ["ingest_transactions", "build_features", "train_candidates"]


def test_runs_of_an_earlier_walk_are_not_taken_for_this_one():
    airflow = whole_loop().script("build_features", ("success", [task("materialize", "success")]), after=-60)
    with pytest.raises(PlatformError, match="build_features did not start within"):
        walk(airflow)


def test_a_failure_names_the_task_and_its_error():
    airflow = whole_loop().script(
        "train_candidates", ("failed", [task("dataset", "success"), task("train", "failed", map_index=2)])
    )
    with pytest.raises(PlatformError, match=r"train_candidates\.train\[2\] failed: DataQualityError: missing"):
        walk(airflow)


def test_a_run_that_failed_as_a_whole_says_so():
    airflow = whole_loop().script("build_features", ("failed", [task("stage", "success")]))
    with pytest.raises(PlatformError, match="failed without a failed task"):
        walk(airflow)


def test_a_run_that_vanished_says_so():
    airflow = whole_loop()
    del airflow.scenes["ingest_transactions"]
    with pytest.raises(PlatformError, match="is gone from Airflow"):
        walk(airflow)


def test_seconds_count_from_the_start_to_the_end():
    assert Stage("x", "y", "queued").seconds == 0.0
    assert Stage("x", "y", "success", BEGUN, BEGUN + timedelta(seconds=90)).seconds == 90.0
