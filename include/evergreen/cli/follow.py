"""Follows one day through the loop's DAGs: which runs belong to it, what their tasks do, and what comes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Protocol

from evergreen.errors import PlatformError

# each DAG of the loop, in order, with the task whose success emits the event that starts the next
LOOP = {
    "ingest_transactions": "publish",
    "build_features": "materialize",
    "train_candidates": "register",
    "promote_model": "promote",
    "score_batch": "score",
}
APPROVAL_TASK = "approve"
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
POLL_SECONDS = 1.0
SETTLE_SECONDS = 3.0  # an answer that overtakes the scheduler's note that the task paused would fail the task
START_SECONDS = 180.0  # a run that its asset event does not start within this time will not start


class Client(Protocol):
    """What is asked of Airflow's REST API (`evergreen.platform.client` is the real one)."""

    def dag_runs(self, dag_id: str, partition_key: str) -> list[dict[str, Any]]:
        """Runs of a DAG for a partition, newest first."""
        ...

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Task instances of a run."""
        ...

    def task_error(self, dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> str:
        """The line of a failed task's log that says why."""
        ...


@dataclass(frozen=True)
class Task:
    """One task instance as its run shows it."""

    task_id: str
    state: str
    seconds: float
    map_index: int = -1
    try_number: int = 1
    mapped_name: str | None = None

    @property
    def label(self) -> str:
        """Task id; where the task is mapped, with the name (before it starts: the index) of what it works on."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.mapped_name or self.map_index}]"


@dataclass
class Stage:
    """One DAG's run for the day."""

    dag_id: str
    run_id: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None
    tasks: list[Task] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds from start to end, to now while it runs."""
        if self.started is None:
            return 0.0
        return ((self.ended or datetime.now(self.started.tzinfo)) - self.started).total_seconds()

    @property
    def waits_for_approval(self) -> bool:
        """True while the approval task waits for a person."""
        return any(task.task_id == APPROVAL_TASK and task.state == "awaiting_input" for task in self.tasks)

    def task_state(self, task_id: str) -> str | None:
        """State of a task, None where the run has none of that name."""
        return next((task.state for task in self.tasks if task.task_id == task_id), None)


def follow(
    client: Client,
    day: date,
    first_run_id: str,
    since: datetime,
    *,
    on_change: Callable[[Stage], None],
    on_approval: Callable[[Stage], None],
) -> Iterator[Stage]:
    """Yields each stage of the loop when it has ended.

    Args:
        client: Airflow.
        day: the partition that is followed.
        first_run_id: the run of the first DAG, which was triggered by hand.
        since: runs queued earlier belong to another walk through the loop.
        on_change: called whenever a task's state changed.
        on_approval: called once, when the approval task waits; it answers or leaves it to others.

    Raises:
        PlatformError: a task failed (with the line of its log that says why), or a run did not start in time.
    """
    after = since
    run_id = first_run_id
    for dag_id, publishing in LOOP.items():
        if dag_id != "ingest_transactions":
            run_id = _await_run(client, dag_id, day, after)
        stage = _await_end(client, dag_id, run_id, day, on_change, on_approval)
        yield stage
        published = stage.task_state(publishing) == "success"
        if dag_id == "promote_model":
            if published:
                after = stage.started or after  # the scores of the new champion, not those that the features started
        elif not published:
            return  # skipped: no event, so nothing follows


def _await_run(client: Client, dag_id: str, day: date, since: datetime) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        fresh = [run for run in client.dag_runs(dag_id, str(day)) if _time(run["queued_at"]) >= since]
        if fresh:
            return str(fresh[0]["dag_run_id"])
        time.sleep(POLL_SECONDS)
    raise PlatformError(
        f"{dag_id} did not start within {START_SECONDS:.0f} s of the event for {day}, its partition: "
        f"look in the web UI whether the DAG is paused"
    )


def _await_end(
    client: Client,
    dag_id: str,
    run_id: str,
    day: date,
    on_change: Callable[[Stage], None],
    on_approval: Callable[[Stage], None],
) -> Stage:
    seen: list[tuple[str, str]] | None = None
    waits_since: float | None = None
    asked = False
    while True:
        stage = _read(client, dag_id, run_id, day)
        now = [(task.label, task.state) for task in stage.tasks]
        if now != seen:
            seen = now
            on_change(stage)
        if stage.waits_for_approval and not asked:
            waits_since = waits_since or time.monotonic()
            if time.monotonic() - waits_since >= SETTLE_SECONDS:
                asked = True
                on_approval(stage)
        if stage.state in ENDED:
            if stage.state == "failed":
                raise PlatformError(_why(client, stage))
            return stage
        time.sleep(POLL_SECONDS)


def _read(client: Client, dag_id: str, run_id: str, day: date) -> Stage:
    run = next((run for run in client.dag_runs(dag_id, str(day)) if run["dag_run_id"] == run_id), None)
    if run is None:
        raise PlatformError(f"run {run_id} of {dag_id} is gone from Airflow; run the command again")
    tasks = [
        Task(
            entry["task_id"],
            entry["state"] or "waiting",
            float(entry["duration"] or 0),
            int(entry["map_index"]),
            int(entry["try_number"]),
            entry.get("rendered_map_index"),
        )
        for entry in client.task_instances(dag_id, run_id)
    ]
    started, ended = run.get("start_date"), run.get("end_date")
    return Stage(
        dag_id,
        run_id,
        run["state"],
        _time(started) if started else None,
        _time(ended) if ended else None,
        tasks,
    )


def _why(client: Client, stage: Stage) -> str:
    failed = next((task for task in stage.tasks if task.state == "failed"), None)
    if failed is None:
        return f"{stage.dag_id} failed without a failed task (run {stage.run_id}); look at it in the web UI"
    line = client.task_error(stage.dag_id, stage.run_id, failed.task_id, failed.map_index, failed.try_number)
    return f"{stage.dag_id}.{failed.label} failed: {line}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
