"""Chooses the best candidate, logs all of them to MLflow, and registers the best as challenger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from evergreen.errors import TrainingError
from evergreen.models.bundle import Bundle, load_bundle, store_bundle
from evergreen.settings import Settings
from evergreen.settings.training import InnerMetric
from evergreen.training.provenance import code_digest, lock_digest, revision, settings_digest
from evergreen.training.tracking import experiment_id, log_to_run, run_page, tracking_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER = "challenger"
BUNDLE_TAG = "bundle_digest"
ARTIFACT = "model"
HEURISTIC = "heuristic"
LOWER_IS_BETTER = frozenset({InnerMetric.LOG_LOSS})


def register_challenger(
    settings: Settings,
    day: date,
    results: Sequence[Mapping[str, Any]],
    training_set: Mapping[str, Any],
    *,
    run_id: str = "",
) -> dict[str, Any]:
    """Registers the best candidate by the inner metric; the same bundle is registered once.

    Args:
        settings: primary metric, MLflow.
        day: newest day of data that was trained on.
        results: what `evergreen.training.trainer.train` returned for each candidate.
        training_set: `TrainingSet.summary()`.
        run_id: of the orchestrator, noted as a tag.

    Returns:
        JSON: version, bundle_digest, bundle (folder under `home/models`), training_set_digest, data_day, candidate,
        mlflow_run_id, mlflow_url_path, inner (metrics of the chosen one), table (all candidates, best first),
        heuristics (name -> bundle_digest of those to beat), new (False where this bundle was registered before).

    Raises:
        TrainingError: there is no result, or a metric is missing or not a number.
        BundleError: a bundle is not whole.
    """
    ranked = rank_candidates(results, settings.training.primary_metric)
    best = ranked[0]
    models = settings.home_path / "models"
    stored = store_bundle(Path(best["folder"]), models)
    heuristics = [one for one in ranked if one["model"] == HEURISTIC]
    for one in heuristics:  # the gate scores them on the holdout
        store_bundle(Path(one["folder"]), models)
    bundle = load_bundle(stored, str(best["bundle_digest"]))
    client = tracking_client(settings)
    found = _registered(client, settings.mlflow.model_name, bundle.digest)
    version = found or _register(client, settings, day, ranked, training_set, bundle, stored, run_id)
    client.set_registered_model_alias(settings.mlflow.model_name, CHALLENGER, version.version)
    experiment = client.get_run(str(version.run_id)).info.experiment_id
    return {
        "version": str(version.version),
        "bundle_digest": bundle.digest,
        "bundle": str(stored),
        "training_set_digest": training_set["digest"],
        "data_day": str(day),
        "candidate": best["candidate"],
        "mlflow_run_id": version.run_id,
        "mlflow_url_path": run_page(experiment, str(version.run_id)),
        "inner": dict(best["inner"]),
        "table": [
            {"candidate": one["candidate"], "bundle_digest": one["bundle_digest"], **one["inner"]} for one in ranked
        ],
        "heuristics": {one["candidate"]: one["bundle_digest"] for one in heuristics},
        "new": found is None,
    }


def registered_tables(settings: Settings) -> list[dict[str, int]]:
    """Table versions that each registered model was trained on."""
    found = tracking_client(settings).search_model_versions(f"name = '{settings.mlflow.model_name}'")
    return [json.loads(version.tags["versions"]) for version in found if "versions" in version.tags]


def rank_candidates(results: Sequence[Mapping[str, Any]], metric: InnerMetric) -> list[Mapping[str, Any]]:
    """Results by the inner metric, best first; equal ones by name.

    Raises:
        TrainingError: there is no result, or one lacks the metric or has no number there.
    """
    if not results:
        raise TrainingError("no candidate was trained, at least one is needed: see the log of the training tasks")
    sign = 1 if metric in LOWER_IS_BETTER else -1
    for one in results:
        value = one["inner"].get(metric.value)
        if value is None or value != value:
            raise TrainingError(
                f"candidate {one['candidate']} has {metric.value} {value}, a number is needed to choose"
            )
    return sorted(results, key=lambda one: (sign * one["inner"][metric.value], one["candidate"]))


def _registered(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' and tag.{BUNDLE_TAG} = '{digest}'")
    return min(found, key=lambda one: int(one.version)) if found else None


def _register(
    client: MlflowClient,
    settings: Settings,
    day: date,
    ranked: Sequence[Mapping[str, Any]],
    training_set: Mapping[str, Any],
    bundle: Bundle,
    stored: Path,
    run_id: str,
) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    tags = {
        "data_day": str(day),
        "training_set_digest": str(training_set["digest"]),
        "versions": json.dumps(training_set["versions"], sort_keys=True),
        "code_digest": code_digest(),
        "lock_digest": lock_digest(),
        "settings_digest": settings_digest(settings),
        "revision": revision(),
        "airflow_run_id": run_id,
    }
    experiment = experiment_id(client, settings)
    parent = client.create_run(experiment, run_name=f"train {day}", tags=tags).info.run_id
    log_to_run(client, parent, {"as_ofs": ",".join(training_set["as_ofs"]), "holdout": training_set["holdout"]}, {})
    chosen = ""
    for one in ranked:
        nested = tags | {"mlflow.parentRunId": parent, BUNDLE_TAG: one["bundle_digest"], "model": one["model"]}
        run = client.create_run(experiment, run_name=one["candidate"], tags=nested).info.run_id
        params = load_bundle(Path(one["folder"]), str(one["bundle_digest"])).manifest["params"]
        log_to_run(client, run, params, {**one["inner"], "seconds": one["seconds"], "rows": one["rows"]})
        if one is ranked[0]:
            chosen = run
            _log_bundle(client, run, bundle, stored)
        client.set_terminated(run)
    client.set_terminated(parent)
    name = settings.mlflow.model_name
    try:
        client.create_registered_model(name, description="Bundles that may be promoted. The ledger is the truth.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(chosen).info.artifact_uri}/{ARTIFACT}"
    heuristics = {one["candidate"]: one["bundle_digest"] for one in ranked if one["model"] == HEURISTIC}
    version_tags = {
        BUNDLE_TAG: bundle.digest,
        "candidate": ranked[0]["candidate"],
        "heuristics": json.dumps(heuristics, sort_keys=True),
        **tags,
    }
    return client.create_model_version(name, source, run_id=chosen, tags=version_tags)


def _log_bundle(client: MlflowClient, run: str, bundle: Bundle, stored: Path) -> None:
    """Copies the bundle beside an `MLmodel` file with its signature. Nothing is pickled and nothing is inferred."""
    inputs = [
        {"name": one["name"], "type": "string" if one["dtype"] == "string" else "float", "required": True}
        for one in bundle.manifest["features"]
    ]
    document = {
        "artifact_path": ARTIFACT,
        "run_id": run,
        "flavors": {"evergreen": {"format": bundle.manifest["format"], "digest": bundle.digest, "bundle": "bundle"}},
        "signature": {
            "inputs": json.dumps(inputs),
            "outputs": json.dumps([{"name": "probability", "type": "double", "required": True}]),
            "params": None,
        },
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "MLmodel"
        file.write_text(yaml.safe_dump(document, sort_keys=True))
        client.log_artifact(run, str(file), ARTIFACT)
    client.log_artifacts(run, str(stored), f"{ARTIFACT}/bundle")
