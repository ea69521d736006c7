from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.platform.containers import Owner, TaskKey, workspace_of
from evergreen.platform.retention import Removed
from evergreen_airflow.operators.maintenance import (
    CleanFilesOperator,
    CleanHistoryOperator,
    ReapContainersOperator,
    SummaryOperator,
    VacuumOperator,
    running_tasks,
)

MAPPED, PLAIN = TaskKey("train_candidates", "r1", "train", 2), TaskKey("other", "r1", "train")


class Scheduler:
    """Answers as the API server does: a mapped instance is named `<task>_<index>`."""

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        states = {"r1": {"train_2": "running", "train_1": "success", "train": "failed"}}
        return {run: names for run, names in states.items() if run in run_ids and dag_id == MAPPED.dag_id}


@pytest.fixture
def ti() -> dict[str, Any]:
    return {"ti": Scheduler()}


def test_who_runs_is_asked_task_by_task(ti):
    done = TaskKey("train_candidates", "r1", "train", 1)
    gone = TaskKey("train_candidates", "r0", "train", 2)
    assert running_tasks(ti, {MAPPED, PLAIN, done, gone}) == {MAPPED}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, settings: Any) -> SimpleNamespace:
    here, removed, asked = workspace_of(settings), [], []
    owners = {"runs": Owner(here, MAPPED, 1), "dead": Owner(here, PLAIN, 1), "theirs": Owner("else", PLAIN, 1)}
    fake = SimpleNamespace(
        removed=removed,
        asked=asked,
        containers=lambda **query: asked.append(query) or [{"Id": k, "Labels": v.labels} for k, v in owners.items()],
        remove_container=lambda identifier, force: removed.append((identifier, force)),
    )
    monkeypatch.setattr("docker.api.client.APIClient", lambda **_: fake)
    return fake


def test_only_what_no_task_waits_for_is_reaped(engine, ti, settings):
    assert ReapContainersOperator(task_id="reap").execute(ti) == [{"what": "containers of dead tasks", "removed": 1}]
    assert engine.removed == [("dead", True)]
    assert engine.asked[0]["filters"]["label"] == [
        "evergreen.part=trainer",
        f"evergreen.workspace={workspace_of(settings)}",
    ]


def test_a_dry_run_reaps_nothing(engine, ti):
    assert ReapContainersOperator(task_id="reap", only_count="True").execute(ti)[0]["removed"] == 1
    assert engine.removed == []


def test_without_an_engine_there_is_nothing_to_reap(ti, monkeypatch):
    monkeypatch.setenv("EVERGREEN__CONTAINER__ENGINE_URL", "unix:///nowhere.sock")
    with pytest.raises(AirflowSkipException, match=r"no Docker engine answers at unix:///nowhere\.sock"):
        ReapContainersOperator(task_id="reap").execute(ti)


def test_records_that_tasks_cannot_reach_are_skipped_with_the_command(context):
    with pytest.raises(
        AirflowSkipException, match=r"Where the scheduler runs: airflow db clean --clean-before-timestamp"
    ):
        CleanHistoryOperator(task_id="history").execute(context())


def test_records_of_this_workspace_are_cleaned(context, monkeypatch):
    monkeypatch.setattr("evergreen.platform.retention.history_is_here", lambda _: True)
    monkeypatch.setattr("evergreen.platform.retention.clean_history", lambda *_, dry_run: Removed(3 if dry_run else 4))
    (row,) = CleanHistoryOperator(task_id="history", only_count="False").execute(context())
    assert row == {"what": "Airflow's records", "removed": 4, "bytes": 0}


def test_files_by_kind_and_age(context, home):
    draft = home / "training_sets" / ".draft.1"
    draft.mkdir(parents=True)
    os.utime(draft, (0, 0))
    rows = CleanFilesOperator(task_id="files", only_count="True").execute(context())
    assert [(row["what"], row["removed"]) for row in rows] == [
        ("leftovers", 1),
        ("notes of staged days", 0),
        ("logs", 0),
    ]
    assert draft.exists()
    CleanFilesOperator(task_id="files", only_count="False").execute(context())
    assert not draft.exists()


def test_an_empty_lake_has_nothing_to_free(context):
    assert VacuumOperator(task_id="vacuum").execute(context()) == []


@pytest.mark.parametrize(("only_count", "begins"), [("True", "would be removed:"), ("", "removed:")])
def test_the_table_leaves_out_who_skipped(context, capsys, only_count, begins):
    rows = [[{"what": "logs", "removed": 2, "bytes": 3 * 2**20}], None, [{"what": "containers", "removed": 0}]]
    operator = SummaryOperator(task_id="summary", rows=rows, only_count=only_count)
    assert [row["removed"] for row in operator.execute(context())] == [2, 0]
    first, second, third = [line.split("]", 1)[1].split("[")[0] for line in capsys.readouterr().out.splitlines()]
    assert first.strip() == begins
    assert second.split() == ["logs", "2", "3.0", "MiB"]
    assert third.split() == ["containers", "0"]


def test_a_clean_house_says_so(context, capsys):
    SummaryOperator(task_id="summary", rows=[[{"what": "logs", "removed": 0}], []]).execute(context())
    assert "nothing" in capsys.readouterr().out.splitlines()[-1]
