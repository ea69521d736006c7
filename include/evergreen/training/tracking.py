"""MLflow's tracking server, as training and search write to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from evergreen.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient


def tracking_client(settings: Settings) -> MlflowClient:
    """A client of tracking and registry that gives up on a dead server within half a minute."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # a dead server is otherwise retried for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient

    if settings.mlflow_uri.startswith("sqlite:///"):
        Path(settings.mlflow_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


def experiment_id(client: MlflowClient, settings: Settings) -> str:
    """The experiment of the settings, made where it is not there."""
    found = client.get_experiment_by_name(settings.mlflow.experiment)
    if found is not None:
        return str(found.experiment_id)
    local = settings.mlflow_uri.startswith("sqlite:///")
    artifacts = (settings.home_path / "mlflow" / "artifacts").as_uri() if local else None
    return str(client.create_experiment(settings.mlflow.experiment, artifact_location=artifacts))


def run_page(experiment: str, run: str) -> str:
    """Address of a run below MLflow's own, on its pages for models: without a word it opens those for agents."""
    return f"#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"


def log_to_run(client: MlflowClient, run: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Parameters and metrics of a run, in one request."""
    from mlflow.entities import Metric, Param

    now = int(time() * 1000)
    client.log_batch(
        run,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
        params=[Param(name, str(value)) for name, value in params.items()],
    )
