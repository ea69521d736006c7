from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evergreen.errors import TrainingError
from evergreen.files import file_sha256
from evergreen.jobs.train import main
from evergreen.models.bundle import load_bundle
from evergreen.models.candidates.xgboost import Xgboost
from evergreen.settings import load_settings
from evergreen.settings.machine import Machine
from evergreen.training import trainer
from evergreen.training.dataset import HOLDOUT, INNER, TRAIN, StoredColumns, TrainingSet
from evergreen.training.spec import TrainSpec, make_specs, read_spec
from evergreen.training.splits import Split
from evergreen.training.trainer import inner_metrics, train

SMALL = {"rounds": 15, "max_depth": 3, "min_child_weight": 1.0}


@pytest.fixture
def training_set(filled_training_set, tmp_path) -> TrainingSet:
    folder = tmp_path / "set"
    shutil.copytree(filled_training_set.folder, folder)
    return TrainingSet.open(folder)


@pytest.fixture
def spec(training_set) -> dict:
    return {
        "candidate": "trees",
        "model": "xgboost",
        "params": SMALL,
        "seed": 5,
        "training_set": {"folder": str(training_set.folder), "digest": training_set.digest},
        "model_name": "buy-it-again",
        "threads": 1,
    }


def write(spec, tmp_path):
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    return file


def run(spec, tmp_path) -> int:
    return main(["--spec", str(write(spec, tmp_path)), "--out", str(tmp_path / "out")])


def test_the_last_line_says_what_was_made(spec, tmp_path, capsys):
    assert run(spec, tmp_path) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    bundle = load_bundle(said["folder"], said["bundle_digest"])
    assert said["candidate"] == "trees"
    assert said["rows"] > 100
    assert said["seconds"] > 0
    assert said["best_iteration"] == bundle.manifest["report"]["best_iteration"]
    assert {"roc_auc", "average_precision", "log_loss", "brier"} <= set(said["inner"])
    assert all(math.isfinite(value) for value in said["inner"].values())
    assert bundle.manifest["training_set"]["digest"] == spec["training_set"]["digest"]
    assert bundle.manifest["params"]["max_depth"] == 3
    assert bundle.manifest["params"]["max_bin"] == 64  # defaults stand there too


def test_the_metrics_are_those_of_the_selection_customers(spec, training_set, tmp_path):
    result = train(TrainSpec.model_validate(spec), tmp_path / "out")
    stored = StoredColumns(training_set.file(INNER), Split.SELECTION)
    probabilities = load_bundle(tmp_path / "out").predict(stored)
    assert inner_metrics(stored.labels(), probabilities) == pytest.approx(result["inner"], rel=1e-12)


@pytest.mark.parametrize("model", ["xgboost", "logistic", "heuristic"])
def test_the_same_spec_gives_the_same_bundle(model, spec, tmp_path):
    spec |= {"model": model, "params": SMALL if model == "xgboost" else {}}
    first = train(TrainSpec.model_validate(spec), tmp_path / "a")
    second = train(TrainSpec.model_validate(spec | {"threads": 2}), tmp_path / "b")
    assert first["bundle_digest"] == second["bundle_digest"]
    other = train(TrainSpec.model_validate(spec | {"seed": 6}), tmp_path / "c")
    assert other["bundle_digest"] != first["bundle_digest"]


def test_the_trainer_never_reads_the_holdout(spec, training_set, tmp_path, monkeypatch):
    opened = []
    original = pq.ParquetFile

    def spy(file, *args, **keywords):
        opened.append(str(file))
        return original(file, *args, **keywords)

    monkeypatch.setattr(pq, "ParquetFile", spy)
    train(TrainSpec.model_validate(spec), tmp_path / "out")
    assert any(file.endswith(TRAIN) for file in opened)  # control: the spy sees what is read
    assert not any(file.endswith(HOLDOUT) for file in opened)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "oracle"}, "model 'oracle' is unknown, must be one of"),
        (
            {"params": {"max_depth": 99}},
            "parameter max_depth of model xgboost is 99, must be a whole number from 1 to 16",
        ),
        ({"params": {"depth": 3}}, "parameter depth of model xgboost is not known"),
        ({"model": "heuristic", "params": {"feature": "nope"}}, "'nope', which the training set lacks"),
        ({"seed": -1}, "seed is -1"),
        ({"colour": "red"}, "colour is 'red'"),
        ({"training_set": {"folder": "/nowhere", "digest": "0" * 64}}, "training set /nowhere cannot be read"),
    ],
)
def test_a_spec_that_cannot_be_used_is_one_line_and_exit_code_1(change, message, spec, tmp_path, capsys):
    assert run(spec | change, tmp_path) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("evergreen: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not (tmp_path / "out").exists()


def relabel(training_set: TrainingSet, spec: dict, labels) -> dict:
    """Another set of labels, with a manifest that fits: only the labels are wrong."""
    for name in (TRAIN,):
        table = pq.read_table(training_set.file(name))
        at = table.column_names.index("label")
        table = table.set_column(at, "label", labels(table["label"]))
        pq.write_table(table, training_set.file(name))
    manifest = json.loads(training_set.file("manifest.json").read_text())
    manifest["files"] = {name: file_sha256(training_set.file(name)) for name in manifest["files"]}
    training_set.file("manifest.json").write_text(json.dumps(manifest))
    return spec


@pytest.mark.fault
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda old: pc.multiply(old, 0), "labels are 0: there is nothing to tell apart"),
        (lambda old: pc.if_else(pc.equal(old, 1), None, old), "labels are missing, none may be"),
        (lambda old: pa.array(np.full(len(old), np.nan)), "labels are missing, none may be"),
        (lambda old: pc.multiply(old, 7), "labels from 0 to 7 were seen, must be 0 or 1"),
    ],
    ids=["constant", "null", "NaN", "not binary"],
)
def test_labels_that_teach_nothing_stop_the_training(labels, message, spec, training_set, tmp_path, capsys):
    assert run(relabel(training_set, spec, labels), tmp_path) == 1
    assert message in capsys.readouterr().err


def test_relabelling_itself_does_no_harm(spec, training_set, tmp_path):
    assert run(relabel(training_set, spec, lambda old: old), tmp_path) == 0  # control of the tests above


def test_rows_that_the_memory_does_not_hold_come_from_a_file(spec, training_set, tmp_path, monkeypatch):
    kept = train(TrainSpec.model_validate(spec), tmp_path / "a", tmp_path / "work")
    monkeypatch.setattr(trainer, "this_machine", lambda: Machine(1, 12_000))
    kinds = []
    fit = Xgboost.fit

    def spy(self, rows, *others, **more):
        kinds.append(type(rows.matrix))
        return fit(self, rows, *others, **more)

    monkeypatch.setattr(Xgboost, "fit", spy)
    mapped = train(TrainSpec.model_validate(spec), tmp_path / "b", tmp_path / "work")
    assert kinds == [np.memmap]
    assert mapped["bundle_digest"] == kept["bundle_digest"]
    assert list((tmp_path / "work").iterdir()) == []


def test_the_network_trains_on_a_file_too(spec, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(trainer, "this_machine", lambda: Machine(1, 12_000))
    spec |= {"model": "network", "params": {"epochs": 2, "batch_rows": 64, "width": 8}}
    result = train(TrainSpec.model_validate(spec), tmp_path / "a", tmp_path / "work")
    assert math.isfinite(result["inner"]["log_loss"])


@pytest.mark.fault
def test_a_feature_that_the_file_lacks_is_named(spec, training_set, tmp_path):
    table = pq.read_table(training_set.file(TRAIN)).drop_columns(["country"])
    pq.write_table(table, training_set.file(TRAIN))
    relabel(training_set, spec, lambda old: old)
    with pytest.raises(TrainingError, match=r"training set .* lacks feature 'country'"):
        train(TrainSpec.model_validate(spec), tmp_path / "out")


def test_an_unreadable_spec_is_named(tmp_path):
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(TrainingError, match=r"spec\.json cannot be read"):
        read_spec(tmp_path / "spec.json")


def test_settings_give_a_spec_a_candidate(training_set, settings):
    specs = make_specs(settings, training_set.summary())
    assert [one["candidate"] for one in specs] == ["frequency", "recency", "popularity", "logistic", "xgboost"]
    assert all(TrainSpec.model_validate(one).resolved() is not None for one in json.loads(json.dumps(specs)))


def test_a_run_may_ask_for_candidates_that_are_not_enabled(training_set, settings):
    specs = make_specs(settings, training_set.summary(), ["random_forest", "frequency"])
    assert [one["candidate"] for one in specs] == ["frequency", "random_forest"]  # in the order of the settings
    with pytest.raises(TrainingError, match=r"candidate 'oracle' is not in settings\.training\.candidates, .* xgboost"):
        make_specs(settings, training_set.summary(), ["frequency", "oracle"])


def test_factorisation_needs_factors(training_set, settings):
    with pytest.raises(TrainingError, match=r"pair_affinity, .* settings\.features\.factors\.enabled"):
        make_specs(settings, training_set.summary(), ["frequency", "factorisation"])
    factors = settings.features.factors.model_copy(update={"enabled": True})
    on = settings.model_copy(update={"features": settings.features.model_copy(update={"factors": factors})})
    (spec,) = make_specs(on, training_set.summary(), ["factorisation"])
    assert (spec["model"], spec["params"]) == ("heuristic", {"feature": "pair_affinity"})
    assert len(make_specs(settings, training_set.summary())) == 5  # nobody asked for it


def test_a_bad_parameter_in_settings_names_its_key(training_set, monkeypatch):
    monkeypatch.setenv("EVERGREEN__TRAINING__CANDIDATES", '{"deep": {"model": "xgboost", "params": {"max_depth": 99}}}')
    with pytest.raises(TrainingError, match=r"settings\.training\.candidates\.deep: parameter max_depth"):
        make_specs(load_settings("local"), training_set.summary())


def test_the_trainer_knows_neither_airflow_nor_mlflow(spec, tmp_path):
    """As the container runs it: a process of its own, one JSON line last."""
    code = (
        "import sys; from evergreen.jobs.train import main; code = main(sys.argv[1:]);"
        "bad = {'airflow', 'mlflow', 'feast', 'pyspark'} & {name.split('.')[0] for name in sys.modules};"
        "sys.exit(f'imported {bad}' if bad else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--spec", str(write(spec, tmp_path)), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["folder"] == str(tmp_path / "out")
