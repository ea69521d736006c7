"""A version of a small shop is made again; what was altered since is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from evergreen.errors import BundleError, LakeError, ReproductionError
from evergreen.evaluation.metrics import measure
from evergreen.evaluation.scores import Scores
from evergreen.lake import Lake, begin, publish, release, seal, stage_days
from evergreen.lake.maintenance import vacuum
from evergreen.lake.staging import new_attempt
from evergreen.models.bundle import load_bundle, save_bundle
from evergreen.promotion import reproduction
from evergreen.promotion.evidence import plain, save_evidence
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.promotion.pins import pinned_versions
from evergreen.promotion.recorded import recall
from evergreen.promotion.reproduction import Outcome, Reproduction, reproduce
from evergreen.settings import Settings
from evergreen.training.dataset import HOLDOUT, TRAIN, StoredColumns, TrainingSet, build_training_set
from evergreen.training.register import BUNDLE_TAG, register_challenger
from evergreen.training.spec import TrainSpec
from evergreen.training.trainer import train as run_trainer
from tests.shop import Shop

SMALL = {"rounds": 12, "max_depth": 3, "min_child_weight": 1.0, "negative_share": 0.2}


def train(spec: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The trainer in this process."""
    return run_trainer(TrainSpec.model_validate(spec), out)


def registered(settings: Settings, made: TrainingSet, bundle: Path | None = None) -> str:
    """Trains, registers, judges (as far as reproduction looks) and notes a version."""
    spec = {
        "candidate": "trees",
        "model": "xgboost",
        "params": SMALL,
        "seed": 3,
        "training_set": {"folder": str(made.folder), "digest": made.digest},
        "model_name": settings.mlflow.model_name,
    }
    result = train(spec, settings.home_path / "trained")
    if bundle is not None:
        result |= {"folder": str(bundle), "bundle_digest": load_bundle(bundle).digest}
    version: str = register_challenger(settings, made.day, [result], made.summary())["version"]
    chosen = load_bundle(result["folder"])
    pairs = StoredColumns(made.file(HOLDOUT))
    scores = Scores(pairs["customer_id"], pairs["product_id"], pairs.labels(), chosen.predict(pairs), {})
    figures = measure(scores, settings.evaluation)
    evaluation = {
        "policy": settings.evaluation.policy.model_dump(mode="json"),
        "metrics": {name: {"value": value} for name, value in figures.items()},
    }
    model = {"version": version, "bundle_digest": chosen.digest}
    evidence = save_evidence(settings, plain({"model": model, "evaluation": evaluation, "tables": made.versions}))
    note(settings, version, "train", f"bundle:{chosen.digest}")
    note(settings, version, "judge", f"bundle:{chosen.digest}", f"evidence:{evidence}")
    return version


def note(settings: Settings, version: str, operation: str, *resources: str) -> None:
    Ledger(settings).append(Entry(operation, version, resources_affected=resources))


@pytest.fixture(scope="module")
def past(filled_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with version 1. Not to be changed."""
    home = tmp_path_factory.mktemp("past") / "home"
    shutil.copytree(filled_shop.settings.home_path, home)
    settings = filled_shop.settings.model_copy(update={"home": home})
    registered(settings, build_training_set(settings, filled_shop.day, join=filled_shop.join))
    return home


@pytest.fixture
def home_of_then(past: Path, settings: Settings, home: Path) -> Settings:
    """This test's own copy of it."""
    shutil.copytree(past, home, dirs_exist_ok=True)
    return settings


@pytest.fixture
def again(home_of_then: Settings, filled_shop: Shop, tmp_path: Path) -> Callable[..., Reproduction]:
    """Makes version 1 again, or another: `again(train=...)`."""

    def make(version: str = "1", **changes: Any) -> Reproduction:
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return reproduce(home_of_then, version, work, **{"train": train, "join": filled_shop.join, **changes})

    return make


def test_dates_of_the_held_out_customers_are_those_of_then(shop: Shop, tmp_path: Path) -> None:
    training = shop.settings.training.model_copy(update={"inner_steps": 2})
    then = shop.settings.model_copy(update={"training": training})
    version = registered(then, build_training_set(then, shop.day, join=shop.join))
    (tmp_path / "work").mkdir()
    made = reproduce(shop.settings, version, tmp_path / "work", train=train, join=shop.join)
    assert made.bit_equal


def outcomes(made: Reproduction) -> dict[str, Outcome]:
    return {line.what: line.outcome for line in made.comparisons}


def kept_set(settings: Settings) -> Path:
    return settings.home_path / "training_sets" / recall(settings, "1").tags["training_set_digest"]


def test_everything_is_equal(again: Callable[..., Reproduction]) -> None:
    made = again()
    found = outcomes(made)
    assert made.reproduced
    assert made.bit_equal
    made.raise_if_different()
    assert {
        *("code", "packages", "settings", "tables", "rows of train.parquet", "bytes of holdout.parquet"),
        *("training set", "training spec", "model-0.ubj", "bundle", "inner roc_auc", "holdout average_precision"),
    } <= set(found)
    assert {outcome for what, outcome in found.items() if what != "commit"} == {Outcome.EQUAL}


def test_nothing_that_was_kept_is_used_to_make_it(
    again: Callable[..., Reproduction], home_of_then: Settings, filled_shop: Shop
) -> None:
    """Also where the training set was removed: registry, bundle and lake say enough."""
    asked = []

    def join(entities: Any) -> Any:
        asked.append(entities["as_of"].iloc[0])
        return filled_shop.join(entities)

    shutil.rmtree(home_of_then.home_path / "training_sets")
    made = again(join=join)
    assert made.reproduced
    assert outcomes(made)["kept training set"] is Outcome.UNKNOWN
    assert len(set(asked)) == 5  # four training dates and the holdout


@pytest.mark.parametrize("pinned", [True, pytest.param(False, id="control")])
def test_it_outlives_corrections_and_vacuum(
    again: Callable[..., Reproduction], home_of_then: Settings, pinned: bool
) -> None:
    """The control vacuums without pins: then the table whose files are gone is named."""
    lake = Lake(home_of_then.lake_path)
    table = lake.table("pair_features")
    day, attempt = table.days()[20], new_attempt()
    begin(lake, table.spec.name, attempt)
    stage_days(lake, table.spec.name, attempt, [(day, table.read(day, day).slice(0, 1))])
    inputs = {"transactions": lake.versions()["transactions"]}
    publish(lake, seal(lake, table.spec.name, attempt, start=day, end=day, transform="test/2", inputs=inputs))
    release(lake, "features", day=day, digest="corrected", versions={table.spec.name: 2}, inputs={})
    vacuum(lake, pinned_versions(home_of_then) if pinned else {}, retention_days=0)
    if pinned:
        assert again().reproduced
        return
    with pytest.raises(LakeError, match=r"table pair_features: 1 of \d+ files of its version 1 are gone"):
        again()


def altered(file: Path, kept: int) -> None:
    """Keeps the first rows of a Parquet file alone, in place."""
    pq.write_table(pq.read_table(file).slice(0, kept), file)


@pytest.mark.fault
def test_an_altered_past_row_of_the_lake_is_named(
    again: Callable[..., Reproduction], home_of_then: Settings, filled_shop: Shop
) -> None:
    table = Lake(home_of_then.lake_path).table("pair_features")
    last = table.days()[-1]
    altered(table.root / next(file.path for file in table.files if file.day == last), 0)
    made = again()
    assert not made.reproduced
    assert "training spec" not in outcomes(made)  # no minutes of training on other data
    holdout = filled_shop.day - timedelta(days=27)
    with pytest.raises(
        ReproductionError,
        match=rf"version 1 is not reproduced: rows of holdout.parquet is .*first other rows are those as of {holdout}.*"
        "Code, packages and settings are those of then: data or artefacts were altered",
    ):
        made.raise_if_different()


@pytest.mark.fault
def test_an_altered_kept_file_is_named(again: Callable[..., Reproduction], home_of_then: Settings) -> None:
    altered(kept_set(home_of_then) / TRAIN, 100)
    with pytest.raises(ReproductionError, match=r"kept train\.parquet is .* not the one that was trained on"):
        again().raise_if_different()


@pytest.mark.fault
def test_another_parameter_or_another_feature_value_is_named(
    again: Callable[..., Reproduction], filled_shop: Shop
) -> None:
    def deeper(spec: Mapping[str, Any], out: Path) -> dict[str, Any]:
        return train({**spec, "params": {**spec["params"], "max_depth": 4}}, out)

    with pytest.raises(ReproductionError, match=r"not reproduced: calibration\.json is"):
        again(train=deeper).raise_if_different()

    def one_more(entities: Any) -> Any:
        frame = filled_shop.join(entities)
        return frame.assign(pair_purchases=frame["pair_purchases"] + 1)

    with pytest.raises(ReproductionError, match=r"not reproduced: rows of holdout\.parquet is"):
        again(join=one_more).raise_if_different()


@pytest.mark.fault
def test_an_altered_bundle_or_training_set_manifest_is_refused(
    again: Callable[..., Reproduction], home_of_then: Settings
) -> None:
    manifest = kept_set(home_of_then) / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"content": document["content"] | {"salt": "other"}}))
    with pytest.raises(ReproductionError, match=r"manifest\.json was altered"):
        again()
    manifest.write_text(json.dumps(document))
    bundle = home_of_then.home_path / "models" / recall(home_of_then, "1").tags[BUNDLE_TAG]
    text = (bundle / "bundle.json").read_text()
    (bundle / "bundle.json").write_text(text.replace('"seed": 3', '"seed": 4'))
    with pytest.raises(BundleError, match=r"bundle\.json was altered"):
        again()


@pytest.mark.fault
def test_a_registry_that_was_changed_behind_the_ledger_is_refused(
    again: Callable[..., Reproduction], home_of_then: Settings
) -> None:
    client = MlflowClient(home_of_then.mlflow_uri)
    client.set_model_version_tag(home_of_then.mlflow.model_name, "1", BUNDLE_TAG, "0" * 64)
    with pytest.raises(ReproductionError, match=r"is bundle 000000000000 in the registry and .* in the ledger"):
        again()


def test_a_version_that_nobody_registered_is_an_error_that_lists_those_there(
    again: Callable[..., Reproduction],
) -> None:
    with pytest.raises(ReproductionError, match="the registry has no version '7' of buy-it-again, expected one of: 1"):
        again("7")


def test_changed_code_is_told_and_tried_all_the_same(
    again: Callable[..., Reproduction], monkeypatch: pytest.MonkeyPatch, home_of_then: Settings
) -> None:
    monkeypatch.setattr(reproduction, "code_digest", lambda: "f" * 64)
    made = again()
    assert outcomes(made)["code"] is Outcome.CHANGED
    assert made.reproduced
    altered(kept_set(home_of_then) / TRAIN, 100)
    made = again()
    known = made.revision or "not known"
    with pytest.raises(ReproductionError, match=f"Changed since: code; .*{known}.*reproduce-a-model"):
        made.raise_if_different()


def test_features_that_were_added_since_are_left_out(again: Callable[..., Reproduction], filled_shop: Shop) -> None:
    def wider(entities: Any) -> Any:
        return filled_shop.join(entities).assign(pair_tenure_days=1.0)

    assert again(join=wider).reproduced


@pytest.mark.parametrize("facts", [{"device": "cuda"}, {"device": "cpu", "processes": 2}], ids=["GPU", "processes"])
@pytest.mark.parametrize(("shift", "outcome"), [(0.01, Outcome.WITHIN_TOLERANCE), (1.0, Outcome.DIFFERENT)])
def test_what_a_gpu_or_several_processes_trained_is_compared_within_a_tolerance(
    again: Callable[..., Reproduction],
    home_of_then: Settings,
    tmp_path: Path,
    shift: float,
    outcome: Outcome,
    facts: dict[str, Any],
) -> None:
    """A bundle that says so, whose probabilities are a little, or much, other than those of the CPU."""
    old = recall(home_of_then, "1").bundle
    moved = replace(old.calibration, c=old.calibration.c + shift)
    manifest = {**old.manifest, "report": {**old.manifest["report"], **facts}}
    save_bundle(tmp_path / "gpu", manifest, old.preprocessor, old.candidate, moved)
    training_set = TrainingSet.open(kept_set(home_of_then))
    made = again(registered(home_of_then, training_set, tmp_path / "gpu"))
    found = outcomes(made)
    assert found["probabilities of the holdout"] is outcome
    assert found["bundle"] is Outcome.CHANGED
    assert not made.bit_equal
    assert made.reproduced == (outcome is Outcome.WITHIN_TOLERANCE)
