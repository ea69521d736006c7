"""A search in MLflow: a run for the search, and one below it for each trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evergreen.settings import Settings
from evergreen.training.tracking import experiment_id, log_to_run, run_page, tracking_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY_TAG, TRIAL_TAG, PARENT_TAG = "search", "search_trial", "mlflow.parentRunId"
MOST_TRIALS = 10_000  # that MLflow gives at once


def log_search(settings: Settings, outcome: Mapping[str, Any]) -> str:
    """Logs an outcome. A search that went on gets its new trials beside those that are there.

    Returns:
        The address of the search's run below MLflow's own.

    Raises:
        MlflowException: the server cannot be reached.
    """
    client = tracking_client(settings)
    experiment = experiment_id(client, settings)
    study, metric = str(outcome["study"]), str(outcome["metric"])
    found = client.search_runs([experiment], f"tags.{STUDY_TAG} = '{study}'", max_results=MOST_TRIALS)
    parents = [one for one in found if PARENT_TAG not in one.data.tags]
    parent = parents[0].info.run_id if parents else _parent(client, experiment, outcome)
    logged = {one.data.tags.get(TRIAL_TAG) for one in found}
    for trial in outcome["table"]:
        if str(trial["number"]) in logged:
            continue
        tags = {STUDY_TAG: study, PARENT_TAG: parent, TRIAL_TAG: str(trial["number"])}
        tags |= {"model": outcome["model"], "role": trial["role"], "state": trial["state"]}
        run = client.create_run(experiment, run_name=f"trial {trial['number']}", tags=tags).info.run_id
        value = {} if trial["value"] is None else {metric: trial["value"]}
        folds = {f"{metric}_fold_{number}": score for number, score in enumerate(trial["folds"])}
        log_to_run(client, run, trial["params"], {**value, **folds, "seconds": trial["seconds"]})
        client.set_terminated(run, "FAILED" if trial["state"] == "fail" else "FINISHED")
    summary = {f"best_{metric}": outcome["best"]["value"], f"default_{metric}": outcome["default"]["value"]}
    summary |= {f"trials_{name}": count for name, count in outcome["trials"].items()}
    log_to_run(client, parent, {}, {**summary, "gain": outcome["gain"], "seconds": outcome["seconds"]})
    client.set_terminated(parent)
    return run_page(experiment, parent)


def _parent(client: MlflowClient, experiment: str, outcome: Mapping[str, Any]) -> str:
    tags = {STUDY_TAG: outcome["study"], "model": outcome["model"], "training_set_digest": outcome["training_set"]}
    name = f"search {outcome['model']} {outcome['day']}"
    run = str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
    facts = {name: outcome[name] for name in ("strategy", "pruning", "metric", "margin", "seed")}
    log_to_run(client, run, {**facts, "folds": len(outcome["folds"])}, {})
    return run
