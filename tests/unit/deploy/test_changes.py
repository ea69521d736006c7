"""The drill of a model waits for what follows a change of champion: its predictions."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from evergreen.deploy import changes
from evergreen.deploy.changes import POLL_SECONDS, ModelChange
from evergreen.errors import DeployError

BEFORE = {"home.champion": ["2", "digest"], "home.earlier": ["1"]}
OLD = {"dag_run_id": "of the day before", "state": "success"}


class FakeAirflow:
    """Airflow as a drill sees it: a state after the other, the last one for ever."""

    url = "http://airflow"

    def __init__(self, rollback: list[str], score: list[list[str]]) -> None:
        self.rollback, self.score = rollback, score
        self.conf: dict[str, Any] = {}
        self.asked: list[str] = []

    def trigger(self, dag_id: str, *, partition_key: str | None, conf: dict[str, Any]) -> dict[str, Any]:
        assert (dag_id, partition_key) == ("rollback_model", None)
        self.conf = conf
        return {"dag_run_id": "drill"}

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        assert (dag_id, run_id) == ("rollback_model", "drill")
        self.asked.append(dag_id)
        return {"state": self.rollback.pop(0) if len(self.rollback) > 1 else self.rollback[0]}

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        assert dag_id == "score_batch"
        if not self.conf:  # before the rollback
            return [OLD]
        self.asked.append(dag_id)
        states = self.score.pop(0) if len(self.score) > 1 else self.score[0]
        return [OLD, *({"dag_run_id": f"new {number}", "state": state} for number, state in enumerate(states))]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were slept; the clock goes on by them alone."""
    naps: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(naps), sleep=naps.append)
    monkeypatch.setattr(changes, "time", clock)
    return naps


@pytest.fixture
def change() -> Callable[[FakeAirflow], ModelChange]:
    def make(airflow: FakeAirflow) -> ModelChange:
        stack: Any = SimpleNamespace(now=lambda: SimpleNamespace(client=airflow))
        return ModelChange(stack, BEFORE)

    return make


def test_it_waits_for_the_rollback_and_then_for_the_scores(
    slept: list[float], change: Callable[[FakeAirflow], ModelChange]
) -> None:
    airflow = FakeAirflow(["queued", "running", "success"], [[], ["queued"], ["running"], ["success"]])
    change(airflow).make()
    assert airflow.conf == {"to": "1", "reason": "rollback drill"}
    assert airflow.asked == ["rollback_model"] * 3 + ["score_batch"] * 4
    assert slept == [POLL_SECONDS] * 5


@pytest.mark.parametrize(
    ("score", "looks"),
    [
        pytest.param([["success"]], 1, id="ended at once"),
        pytest.param([["failed"]], 1, id="a failed run has ended, too: the look at the champion tells the rest"),
        pytest.param([[], ["success"]], 2, id="none yet, but the one of the day before, which does not count"),
        pytest.param([["success", "running"], ["success", "success"]], 2, id="two, one of them at work"),
    ],
)
def test_scores_have_ended_when_there_are_new_ones_and_none_is_at_work(
    slept: list[float], change: Callable[[FakeAirflow], ModelChange], score: list[list[str]], looks: int
) -> None:
    airflow = FakeAirflow(["success"], score)
    change(airflow).make()
    assert airflow.asked.count("score_batch") == looks


@pytest.mark.parametrize(
    ("rollback", "score", "told"),
    [
        (["queued", "failed"], [["success"]], r"^rollback_model to version 1 is failed: see http://airflow$"),
        (["running"], [["success"]], r"^rollback_model to version 1 is running: see http://airflow$"),
        (["success"], [[]], r"^score_batch did not follow the rollback to version 1: see http://airflow$"),
        (["success"], [["running"]], r"^score_batch did not follow the rollback to version 1"),
    ],
)
def test_it_does_not_wait_for_ever(
    slept: list[float], change: Callable[[FakeAirflow], ModelChange], rollback: list[str], score: Any, told: str
) -> None:
    with pytest.raises(DeployError, match=told):
        change(FakeAirflow(rollback, score)).make()
    assert sum(slept) <= changes.MODEL_SECONDS + POLL_SECONDS
