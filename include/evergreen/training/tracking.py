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

# What MLflow's pages begin with: runs and models, not traces of agents.
KIND = ("mlflow.experimentKind", "custom_model_development")


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
        if KIND[0] not in found.tags:  # it was made by hand, or before this was set
            client.set_experiment_tag(found.experiment_id, *KIND)
        return str(found.experiment_id)
    local = settings.mlflow_uri.startswith("sqlite:///")
    artifacts = (settings.home_path / "mlflow" / "artifacts").as_uri() if local else None
    tags = dict([KIND])
    return str(client.create_experiment(settings.mlflow.experiment, artifact_location=artifacts, tags=tags))


def log_to_run(client: MlflowClient, run: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Parameters and metrics of a run, in one request."""
    from mlflow.entities import Metric, Param

    now = int(time() * 1000)
    client.log_batch(
        run,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
        params=[Param(name, str(value)) for name, value in params.items()],
    )
