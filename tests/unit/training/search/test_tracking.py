from __future__ import annotations

from mlflow import MlflowClient

from evergreen.training.search.tracking import log_search


def trial(number: int, state: str = "complete", value: float | None = 0.2) -> dict:
    return {
        "number": number,
        "role": "default" if number == 0 else "proposed",
        "state": state,
        "value": value,
        "folds": [0.1, 0.3],
        "params": {"max_depth": 7 - number},
        "seconds": 1.5,
    }


def outcome(*table: dict) -> dict:
    return {
        "study": "xgboost-abc",
        "model": "xgboost",
        "metric": "average_precision",
        "strategy": "bayesian",
        "pruning": "median",
        "margin": 0.001,
        "seed": 7,
        "day": "2024-06-13",
        "training_set": "d" * 64,
        "folds": [{}, {}],
        "best": table[0],
        "default": table[0],
        "gain": 0.0,
        "trials": {"complete": 1, "pruned": 1, "failed": 0, "wanted": 3},
        "seconds": 3.0,
        "table": list(table),
    }


def test_a_search_has_its_trials_below_it_once_each(settings):
    page = log_search(settings, outcome(trial(0), trial(1, "pruned", None)))
    # The search went on: its new trial comes beside the others.
    assert log_search(settings, outcome(trial(0), trial(1, "pruned", None), trial(2, "fail", None))) == page
    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    experiment = client.get_experiment_by_name(settings.mlflow.experiment)
    runs = client.search_runs([experiment.experiment_id])
    parents = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    assert [one.info.run_name for one in parents] == ["search xgboost 2024-06-13"]
    assert page.endswith(f"/runs/{parents[0].info.run_id}?workflowType=machine_learning")
    assert parents[0].data.metrics["best_average_precision"] == 0.2
    children = {
        one.info.run_name: one for one in runs if one.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id
    }
    assert sorted(children) == ["trial 0", "trial 1", "trial 2"]
    assert children["trial 0"].data.params == {"max_depth": "7"}
    assert children["trial 0"].data.metrics["average_precision"] == 0.2
    assert "average_precision" not in children["trial 1"].data.metrics
    assert children["trial 1"].data.metrics["average_precision_fold_1"] == 0.3
    assert children["trial 1"].data.tags["state"] == "pruned"
    assert children["trial 2"].info.status == "FAILED"
    assert {one.info.status for one in (*parents, children["trial 0"])} == {"FINISHED"}
