from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.models import Model

from evergreen.errors import BundleError, TrainingError
from evergreen.models.bundle import load_bundle
from evergreen.settings import Settings, load_settings
from evergreen.settings.training import InnerMetric
from evergreen.training.provenance import code_digest, lock_digest, settings_digest
from evergreen.training.register import rank_candidates, register_challenger, registered_tables
from evergreen.training.spec import TrainSpec
from evergreen.training.trainer import train


@pytest.fixture(scope="module")
def results(filled_training_set, tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("bundles")
    entries = {
        "frequency": ("heuristic", {"feature": "pair_purchases"}),
        "xgboost": ("xgboost", {"rounds": 20, "max_depth": 3, "min_child_weight": 1.0}),
    }
    made = []
    for name, (model, params) in entries.items():
        spec = TrainSpec(
            candidate=name,
            model=model,
            params=params,
            seed=1,
            training_set={"folder": filled_training_set.folder, "digest": filled_training_set.digest},
            model_name="buy-it-again",
        )
        made.append(json.loads(json.dumps(train(spec, folder / name))))
    return made


def result(name: str, **inner: float) -> dict:
    return {"candidate": name, "inner": inner}


def test_the_best_is_the_highest_precision_or_the_lowest_loss():
    both = [
        result("a", average_precision=0.2, log_loss=0.11),
        result("b", average_precision=0.3, log_loss=0.12),
        result("c", average_precision=0.1, log_loss=0.13),
    ]
    assert [one["candidate"] for one in rank_candidates(both, InnerMetric.AVERAGE_PRECISION)] == ["b", "a", "c"]
    assert [one["candidate"] for one in rank_candidates(both, InnerMetric.LOG_LOSS)] == ["a", "b", "c"]


def test_equal_candidates_are_ranked_by_name_whatever_their_order():
    tied = [result(name, average_precision=0.2) for name in ("b", "a")]
    for order in (tied, tied[::-1]):
        assert rank_candidates(order, InnerMetric.AVERAGE_PRECISION)[0]["candidate"] == "a"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "no candidate was trained"),
        ([result("a", log_loss=0.1)], "candidate a has average_precision None"),
        ([result("a", average_precision=math.nan)], "candidate a has average_precision nan"),
    ],
)
def test_without_a_metric_there_is_no_choice(bad, message):
    with pytest.raises(TrainingError, match=message):
        rank_candidates(bad, InnerMetric.AVERAGE_PRECISION)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """One registry for all tests of this module: MLflow takes seconds to make one."""
    return load_settings("local").model_copy(update={"home": tmp_path_factory.mktemp("registry")})


@pytest.fixture(scope="module")
def registered(settings, filled_training_set, results):
    return register_challenger(
        settings, filled_training_set.day, results, filled_training_set.summary(), run_id="run-1"
    )


def test_mlflows_own_client_sees_the_challenger(registered, settings, filled_training_set, results):
    best = max(results, key=lambda one: one["inner"]["average_precision"])
    client = MlflowClient(settings.mlflow_uri)
    version = client.get_model_version_by_alias("buy-it-again", "challenger")
    assert (str(version.version), version.run_id) == ("1", registered["mlflow_run_id"])
    assert version.tags["bundle_digest"] == best["bundle_digest"] == registered["bundle_digest"]
    assert registered["version"] == "1"
    assert registered["candidate"] == best["candidate"]
    assert registered["training_set_digest"] == filled_training_set.digest
    assert registered["data_day"] == str(filled_training_set.day)
    assert registered["inner"] == best["inner"]
    assert registered["table"][0]["candidate"] == best["candidate"]
    assert registered["new"]
    json.dumps(registered)

    run = client.get_run(version.run_id)
    assert run.data.metrics["average_precision"] == pytest.approx(best["inner"]["average_precision"])
    tags = run.data.tags
    assert tags["code_digest"] == code_digest()
    assert tags["settings_digest"] == settings_digest(settings)
    assert tags["lock_digest"] == lock_digest()
    assert json.loads(tags["versions"]) == filled_training_set.versions
    runs = client.search_runs([run.info.experiment_id])
    assert {one.info.run_name for one in runs} == {"frequency", "xgboost", f"train {filled_training_set.day}"}
    page = f"#/experiments/{run.info.experiment_id}/runs/{version.run_id}?workflowType=machine_learning"
    assert registered["mlflow_url_path"] == page
    parent = client.get_run(tags["mlflow.parentRunId"])
    assert parent.data.tags["airflow_run_id"] == "run-1"


def test_the_artifacts_are_the_bundle_and_a_signature(registered, settings, tmp_path):
    client = MlflowClient(settings.mlflow_uri)
    source = client.get_model_version("buy-it-again", registered["version"]).source
    folder = Path(client.download_artifacts(registered["mlflow_run_id"], "model", str(tmp_path)))
    assert source.endswith("/model")
    assert load_bundle(folder / "bundle").digest == registered["bundle_digest"]
    assert load_bundle(registered["bundle"]).digest == registered["bundle_digest"]
    assert Path(registered["bundle"]) == settings.home_path / "models" / registered["bundle_digest"]
    assert "evergreen" in yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    signature = Model.load(str(folder)).signature  # MLflow reads what we wrote
    features = [one["name"] for one in load_bundle(folder / "bundle").manifest["features"]]
    assert signature.inputs.input_names() == features
    assert signature.outputs.input_names() == ["probability"]


@pytest.mark.usefixtures("registered")
def test_the_registry_tells_which_table_versions_its_models_read(settings, filled_training_set):
    assert registered_tables(settings) == [filled_training_set.versions]


def test_the_same_bundle_is_registered_once(registered, settings, filled_training_set, results):
    again = register_challenger(settings, filled_training_set.day, results[::-1], filled_training_set.summary())
    assert not again.pop("new")
    assert again == {key: value for key, value in registered.items() if key != "new"}
    client = MlflowClient(settings.mlflow_uri)
    assert len(client.search_model_versions("name = 'buy-it-again'")) == 1
    other = [one for one in results if one["bundle_digest"] != registered["bundle_digest"]]
    third = register_challenger(settings, filled_training_set.day, other, filled_training_set.summary())
    assert (third["version"], third["new"]) == ("2", True)
    assert str(client.get_model_version_by_alias("buy-it-again", "challenger").version) == "2"


@pytest.mark.fault
def test_an_altered_bundle_is_not_registered(settings, filled_training_set, results):
    wrong = [one | {"bundle_digest": "0" * 64} for one in results]
    with pytest.raises(BundleError, match="expected 000000"):
        register_challenger(settings, filled_training_set.day, wrong, filled_training_set.summary())


def test_settings_that_only_say_where_things_lie_are_not_in_their_digest(settings, tmp_path):
    moved = settings.model_copy(update={"home": tmp_path / "elsewhere"})
    assert settings_digest(moved) == settings_digest(settings)
    changed = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": 99})})
    assert settings_digest(changed) != settings_digest(settings)
    assert len(code_digest()) == 64
