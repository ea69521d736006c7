from __future__ import annotations

import json
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.errors import EvergreenError, LakeError
from evergreen.lake import Lake, release
from evergreen.models.bundle import load_bundle
from evergreen.promotion.ledger import Ledger
from evergreen.settings import Settings, load_settings
from evergreen_airflow.assets import CHALLENGER
from evergreen_airflow.operators.training import (
    RegisterChallengerOperator,
    TrainingSetOperator,
    TrainingSpecsOperator,
    TrainProcessOperator,
    newest_published_day,
    why_not_train,
)

NEWEST = date(2011, 8, 31)
FROM_BACKFILL = [SimpleNamespace(extra={"backfill": True})]


@pytest.fixture
def features_released(lake: Lake) -> None:
    release(lake, "features", day=NEWEST, digest="d", versions={"pair_features": 0}, inputs={})


def test_the_newest_published_day(lake, settings):
    assert newest_published_day(settings) is None
    release(lake, "features", day=NEWEST, digest="d", versions={}, inputs={})
    assert newest_published_day(settings) == NEWEST


@pytest.mark.usefixtures("features_released")
def test_the_newest_day_is_trained_on(settings, context):
    assert why_not_train(settings, NEWEST, context(run_type="asset_triggered")) == ""
    assert why_not_train(settings, NEWEST, context()) == ""


@pytest.mark.usefixtures("features_released")
@pytest.mark.parametrize(
    ("day", "run", "reason"),
    [
        (date(2011, 8, 30), {}, "2011-08-30 is not the newest published day, 2011-08-31 is"),
        (NEWEST, {"run_type": "backfill"}, "2011-08-31 was loaded by a backfill, which trains nothing"),
        (
            NEWEST,
            {"run_type": "asset_triggered", "events": FROM_BACKFILL},
            "2011-08-31 was loaded by a backfill, which trains nothing",
        ),
    ],
)
def test_nobody_trains_on(settings, context, day, run, reason):
    assert why_not_train(settings, day, context(**run)) == reason


@pytest.mark.usefixtures("features_released")
def test_where_the_controller_decides_events_start_nothing(context, monkeypatch):
    monkeypatch.setenv("EVERGREEN__RETRAINING__MODE", "controlled")
    settings = load_settings()
    assert "the retrain controller decides" in why_not_train(settings, NEWEST, context(run_type="asset_triggered"))
    assert why_not_train(settings, NEWEST, context(run_type="manual")) == ""


@pytest.mark.usefixtures("features_released")
def test_a_day_that_nobody_trains_on_is_skipped_with_its_reason(context):
    with pytest.raises(AirflowSkipException, match="2011-08-30 is not the newest published day"):
        TrainingSetOperator(task_id="dataset", day="2011-08-30").execute(context())


@pytest.mark.usefixtures("features_released")
def test_force_skips_nothing(context):
    """It goes on to the real builder, which finds no transactions in this lake."""
    with pytest.raises(LakeError, match="transactions"):
        TrainingSetOperator(task_id="dataset", day="2011-08-31", force="True").execute(context())


def test_the_trainer_refuses_in_its_own_words_from_a_process_of_its_own(context, tmp_path):
    spec: dict[str, Any] = {
        "candidate": "logistic",
        "model": "logistic",
        "seed": 7,
        "training_set": {"folder": str(tmp_path / "none"), "digest": "0" * 64},
        "model_name": "buy-it-again",
    }
    operator = TrainProcessOperator(task_id="train", spec=spec)
    with pytest.raises(EvergreenError, match=r"^training set .*none cannot be read"):
        operator.execute(context())
    operator.on_kill()  # nothing runs any more


def test_the_same_is_not_trained_twice(context, filled_training_set):
    spec = {
        "candidate": "frequency",
        "model": "heuristic",
        "params": {"feature": next(name for name, kind in filled_training_set.features if kind == "number")},
        "seed": 7,
        "training_set": {"folder": str(filled_training_set.folder), "digest": filled_training_set.digest},
        "model_name": "buy-it-again",
    }
    first = TrainProcessOperator(task_id="train", spec=spec).execute(context())
    again = TrainProcessOperator(task_id="train", spec=spec)
    assert again.execute(context()) == first
    assert again._job is None  # no process was started
    assert load_bundle(first["folder"], first["bundle_digest"])


def test_each_candidate_of_the_settings_gets_a_spec(context, settings, tmp_path):
    training_set = {"folder": str(tmp_path), "digest": "0" * 64, "day": "2011-08-31", "rows": {"train": 7}}
    specs = TrainingSpecsOperator(task_id="specs", training_set=training_set).execute(context())
    assert [spec["candidate"] for spec in specs] == [
        name for name, entry in settings.training.candidates.items() if entry.enabled
    ]
    assert {spec["training_set"]["digest"] for spec in specs} == {"0" * 64}
    assert json.dumps(specs)


def test_the_log_tells_what_each_candidate_is_trained_with(context, settings, tmp_path, monkeypatch):
    training_set = {"folder": str(tmp_path), "digest": "0" * 64, "day": "2011-08-31", "rows": {"train": 7}}
    operator = TrainingSpecsOperator(task_id="specs", training_set=training_set, candidates="frequency, xgboost")
    said = []
    monkeypatch.setattr(operator.log, "info", lambda text, *given: said.append(text % given))
    operator.execute(context())
    assert said == ["frequency (heuristic): feature pair_purchases", "xgboost (xgboost): the model's defaults"]


def test_a_run_gets_specs_of_the_candidates_that_it_names(context, tmp_path):
    training_set = {"folder": str(tmp_path), "digest": "0" * 64, "day": "2011-08-31"}
    operator = TrainingSpecsOperator(task_id="specs", training_set=training_set, candidates=" ensemble, recency,")
    assert [spec["candidate"] for spec in operator.execute(context())] == ["recency", "ensemble"]


def test_nothing_to_kill_before_it_runs():
    TrainProcessOperator(task_id="train", spec={}).on_kill()


def test_registering_links_the_run_and_emits_the_challenger(context, monkeypatch, settings):
    registered = {
        "version": "3",
        "bundle_digest": "b",
        "training_set_digest": "t",
        "candidate": "xgboost",
        "mlflow_url_path": "#/experiments/1/runs/r",
        "inner": {"average_precision": 0.2},
        "new": True,
    }
    asked: list[Any] = []

    def register(settings: Settings, day: date, results: Any, training_set: Any, *, run_id: str) -> dict[str, Any]:
        asked.append((day, results, training_set["digest"], run_id))
        return registered

    monkeypatch.setattr("evergreen.training.register.register_challenger", register)
    made = context()
    operator = RegisterChallengerOperator(
        task_id="register",
        training_set={"day": "2011-08-31", "digest": "t"},
        trained=({"candidate": name, "seconds": 2} for name in ("logistic", "xgboost")),
        outlets=[CHALLENGER],
    )
    assert operator.execute(made) == registered
    assert [(day, [result["candidate"] for result in results], *rest) for day, results, *rest in asked] == [
        (NEWEST, ["logistic", "xgboost"], "t", "run-1")
    ]
    assert operator.mlflow_url == f"http://127.0.0.1:{settings.mlflow.port}/#/experiments/1/runs/r"
    event = made["outlet_events"][CHALLENGER]
    assert event.keys == ["2011-08-31"]
    assert event.extra["challenger"] == registered
    assert json.dumps(event.extra)
    (trained,) = (sealed.entry for sealed in Ledger(settings).entries())
    assert (trained.operation, trained.model_version, trained.duration_seconds) == ("train", "3", 4.0)


def test_what_is_templated():
    assert TrainProcessOperator.template_fields == ("spec",)
    assert TrainingSetOperator.template_fields == ("day", "force")
    assert RegisterChallengerOperator.template_fields == ("training_set", "trained")
