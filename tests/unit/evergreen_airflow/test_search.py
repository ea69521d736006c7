from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from mlflow.exceptions import MlflowException

from evergreen_airflow.operators import search
from evergreen_airflow.operators.search import SearchOperator

SET = {"folder": "/sets/a", "digest": "d" * 64}
OUTCOME = {
    "study": "xgboost-abc",
    "model": "xgboost",
    "customers_share": 1.0,
    "folds": [{}, {}],
    "metric": "average_precision",
    "gain": 0.01,
    "beats_default": True,
    "trials": {"complete": 3, "pruned": 1, "failed": 0, "wanted": 9},
    "seconds": 4.0,
    "best": {"number": 2, "params": {"max_depth": 5}, "value": 0.21},
    "default": {"number": 0, "value": 0.2},
    "table": ["long"],
}


@pytest.fixture
def jobs(monkeypatch) -> list:
    """What was started instead of a process."""
    started = []

    class Job:
        def __init__(self, module, arguments):
            started.append((module, arguments))

        def run(self, say):
            return OUTCOME

        def kill(self):
            started.append("killed")

    monkeypatch.setattr(search, "JobProcess", Job)
    return started


@pytest.fixture
def tracked(monkeypatch) -> list:
    logged: list = []

    def log(settings, outcome):
        logged.append(outcome)
        return "#/experiments/1/runs/2"

    monkeypatch.setattr("evergreen.training.search.tracking.log_search", log)
    return logged


def test_it_is_skipped_where_nobody_asked(context, jobs):
    for wanted in ("False", "", "None"):
        with pytest.raises(AirflowSkipException, match="trigger with `search`"):
            SearchOperator(task_id="search", training_set=SET, wanted=wanted).execute(context())
    assert jobs == []


def test_each_model_of_the_settings_is_searched(context, jobs, tracked, monkeypatch):
    monkeypatch.setenv("EVERGREEN__TRAINING__SEARCH__MODELS", "[xgboost, lightgbm]")
    operator = SearchOperator(task_id="search", training_set=SET, wanted="True")
    found = operator.execute(context())
    assert [arguments[-1] for _, arguments in jobs] == ["xgboost", "lightgbm"]
    assert jobs[0] == (
        "evergreen.jobs.search",
        ["--training-set", "/sets/a", "--digest", "d" * 64, "--model", "xgboost"],
    )
    assert set(found) == {"xgboost", "lightgbm"}
    assert found["xgboost"]["best"] == {"max_depth": 5}
    assert "table" not in found["xgboost"]  # a result that tasks hand on is small
    assert tracked == [OUTCOME, OUTCOME]
    assert operator.mlflow_url.endswith("/#/experiments/1/runs/2")
    operator.on_kill()
    assert jobs[-1] == "killed"


@pytest.mark.parametrize(
    ("margin", "told"),
    [
        ("0.001", "; used by the training from now on"),
        ("0.05", "; not used by the training: it gains 0.0100 on the defaults, at least 0.05 is asked for"),
    ],
)
def test_the_log_ends_with_what_comes_of_it(context, jobs, tracked, monkeypatch, margin, told):
    monkeypatch.setenv("EVERGREEN__TRAINING__SEARCH__MARGIN", margin)
    operator = SearchOperator(task_id="search", training_set=SET, wanted="True")
    said = []
    monkeypatch.setattr(operator.log, "info", lambda text, *given: said.append(text % given if given else text))
    operator.execute(context())
    assert said[0].endswith(f": {operator.mlflow_url}")
    assert said[1] == (
        "xgboost: average_precision +0.0100 against the defaults, on held-out customers of 2 folds, best of 4 trials"
        + told
    )


def test_a_dead_mlflow_does_not_fail_the_search(context, jobs, monkeypatch):
    def dead(settings, outcome):
        raise MlflowException("no answer\nfrom the server")

    monkeypatch.setattr("evergreen.training.search.tracking.log_search", dead)
    operator = SearchOperator(task_id="search", training_set=SET, wanted="True")
    assert operator.execute(context())["xgboost"]["value"] == 0.21
    assert operator.mlflow_url == ""
