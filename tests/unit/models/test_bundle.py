from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from evergreen.errors import BundleError
from evergreen.lake.digest import digest_json
from evergreen.models.bundle import MANIFEST, load_bundle, make_manifest, save_bundle, store_bundle
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import Drawn, Sample, candidate_class, known_models
from evergreen.models.params import resolve
from evergreen.models.preprocessing import Preprocessor

BOOSTERS = ["model-0.ubj", "model-1.ubj", "model-2.ubj"]
FEATURES = [("pair_purchases", "number"), ("pair_recency_days", "number"), ("country", "category")]
SMALL = {
    "xgboost": {"rounds": 30, "max_depth": 3, "min_child_weight": 1, "learning_rate": 0.3, "negative_share": 1},
    "lightgbm": {
        "rounds": 30,
        "num_leaves": 7,
        "min_data_in_leaf": 5,
        "min_sum_hessian_in_leaf": 1,
        "negative_share": 1,
    },
    "hist_boosting": {"rounds": 30, "max_leaf_nodes": 7, "min_samples_leaf": 5, "negative_share": 1},
    "random_forest": {"trees": 20, "max_leaf_nodes": 50, "negative_share": 1},
    "ensemble": {"members": "random_forest,logistic,heuristic"},
    "logistic": {},
    "heuristic": {},
    "network": {"epochs": 15, "batch_rows": 128, "width": 16, "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = 3_000
    made = pd.DataFrame(
        {
            "pair_purchases": rng.integers(1, 20, rows).astype(np.float32),
            "pair_recency_days": rng.integers(0, 365, rows).astype(np.float32),
            "country": rng.choice(["UK", "FR"], rows),
        }
    )
    made.loc[rng.random(rows) < 0.1, "pair_recency_days"] = np.nan
    margin = 0.2 * made["pair_purchases"] - 0.01 * made["pair_recency_days"].fillna(180) + (made["country"] == "FR") - 2
    return made.assign(label=(rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.int8))


def train(model: str, frame: pd.DataFrame, folder, *, threads: int = 1, seed: int = 3, **params):
    if model == "network":
        pytest.importorskip("torch")
    kind = candidate_class(model)
    resolved = resolve(model, SMALL[model] | params, kind.ranges)
    kinds = dict(FEATURES)
    features = [(name, kinds[name]) for name in kind.features(resolved, list(kinds))]
    fit, held = frame.iloc[:2000], frame.iloc[2000:]
    labels = fit["label"].to_numpy(np.int8)
    rows = kind.rows(resolved, labels, seed)
    fit = fit if rows is None else fit.iloc[rows]
    drawn = None if rows is None else Drawn(rows, labels)
    preprocessor = Preprocessor.fit(kind.plan, features, fit)

    def sample(part, drawn=None):
        matrix = preprocessor.transform(part, len(part))
        return Sample(matrix, part["label"].to_numpy(np.int8), preprocessor.names, drawn)

    candidate = kind()
    report = candidate.fit(sample(fit, drawn), sample(held), resolved, seed=seed, threads=threads)
    calibration = BetaCalibration.fit(candidate.predict(sample(held).matrix), held["label"].to_numpy())
    manifest = make_manifest(
        model_name="buy-it-again",
        candidate=model,
        model=model,
        params=resolved,
        seed=seed,
        features=features,
        service="buy_again",
        spec_digest="0" * 64,
        training_set={"digest": "1" * 64},
        report=report,
    )
    return save_bundle(folder, manifest, preprocessor, candidate, calibration)


@pytest.fixture
def bundle(frame, tmp_path):
    train("xgboost", frame, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize("model", known_models())
def test_a_bundle_predicts_the_same_before_and_after_it_was_written(model, frame, tmp_path):
    made = train(model, frame, tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle", made.digest)
    assert loaded.digest == made.digest
    probabilities = loaded.predict(frame)
    assert probabilities.dtype == np.float64
    assert ((probabilities > 0) & (probabilities < 1)).all()
    np.testing.assert_array_equal(probabilities, made.predict(frame))
    np.testing.assert_array_equal(probabilities[:7], loaded.predict(frame.head(7)))  # rows do not see each other
    assert abs(probabilities[2000:].mean() - frame["label"][2000:].mean()) < 1e-3


@pytest.mark.parametrize("model", [model for model in known_models() if model != "heuristic"])
def test_a_model_learns_what_is_there(model, frame, tmp_path):
    from sklearn.metrics import roc_auc_score

    made = train(model, frame, tmp_path / "bundle")
    assert roc_auc_score(frame["label"][2000:], made.predict(frame)[2000:]) > 0.75


@pytest.mark.parametrize("model", known_models())
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_training_gives_the_same_bytes(model, threads, frame, tmp_path):
    first = train(model, frame, tmp_path / "a", threads=1)
    second = train(model, frame, tmp_path / "b", threads=threads)
    assert first.digest == second.digest
    for name in ("bundle.json", *first.manifest["files"]):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_seed_gives_another_model(frame, tmp_path):
    assert train("xgboost", frame, tmp_path / "a").digest != train("xgboost", frame, tmp_path / "b", seed=4).digest


def test_a_share_of_the_negatives_keeps_the_level_of_probabilities(frame, tmp_path):
    drawn = train("xgboost", frame, tmp_path / "a", negative_share=0.4)
    assert drawn.manifest["report"]["fitted_rows"] < 2000
    assert abs(drawn.scores(frame).mean() - frame["label"].mean()) < 0.03  # before calibration


def test_logistic_regression_reads_at_most_so_many_rows(frame, tmp_path):
    assert train("logistic", frame, tmp_path / "a", max_rows=1000).manifest["report"]["fitted_rows"] == 1000
    rows = candidate_class("logistic").rows({"max_rows": 1000}, np.zeros(2000, np.int8), 3)
    assert (np.diff(rows) > 0).all()  # ascending: the canonical order is kept


def test_nothing_in_a_bundle_is_code(bundle):
    assert sorted(file.name for file in bundle.iterdir()) == [
        "bundle.json",
        "calibration.json",
        *BOOSTERS,
        "preprocessing.json",
    ]


def test_the_manifest_says_what_the_model_was_made_from(bundle):
    manifest = load_bundle(bundle).manifest
    assert manifest["features"][2] == {"name": "country", "dtype": "string"}
    assert set(manifest["frameworks"]) == {"python", "numpy", "pandas", "xgboost"}
    assert set(manifest["files"]) == {"calibration.json", *BOOSTERS, "preprocessing.json"}
    assert manifest["params"]["rounds"] == 30


@pytest.mark.fault
@pytest.mark.parametrize("name", ["model-0.ubj", "preprocessing.json", "calibration.json", "bundle.json"])
def test_a_flipped_byte_is_found_in_every_file(bundle, name):
    load_bundle(bundle)  # control: whole, it loads
    content = bytearray((bundle / name).read_bytes())
    at = len(content) // 2
    content[at] ^= 1
    (bundle / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=name):
        load_bundle(bundle)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("lightgbm", "model-1.txt"),
        ("hist_boosting", "model.onnx"),
        ("random_forest", "model.onnx"),
        ("ensemble", "random_forest/model.onnx"),
        ("ensemble", "logistic/preprocessing.json"),
    ],
)
def test_a_flipped_byte_is_found_in_every_format_and_folder(model, name, frame, tmp_path):
    folder = tmp_path / "bundle"
    train(model, frame, folder)
    load_bundle(folder)  # control
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"file {name} was altered"):
        load_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"file {name} is missing"):
        load_bundle(folder)


@pytest.mark.fault
def test_a_file_too_few_or_too_many_is_named(bundle):
    (bundle / "extra.pkl").write_text("x")
    with pytest.raises(BundleError, match=r"extra\.pkl is not in its manifest"):
        load_bundle(bundle)
    (bundle / "extra.pkl").unlink()
    load_bundle(bundle)  # control
    (bundle / "model-0.ubj").unlink()
    with pytest.raises(BundleError, match=r"model-0\.ubj is missing"):
        load_bundle(bundle)
    shutil.rmtree(bundle)
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        load_bundle(bundle)


def rewrite(bundle, **changes):
    """A forger who also makes the digest fit."""
    document = json.loads((bundle / MANIFEST).read_text())
    document["manifest"] |= changes
    document["digest"] = digest_json(document["manifest"])
    (bundle / MANIFEST).write_text(json.dumps(document))


def test_a_forged_manifest_has_another_digest(bundle):
    digest = load_bundle(bundle).digest
    rewrite(bundle, candidate="mine")
    with pytest.raises(BundleError, match="expected"):
        load_bundle(bundle, digest)


def test_what_this_code_does_not_know_is_named(bundle):
    rewrite(bundle, model="oracle")
    with pytest.raises(BundleError, match="'oracle' is unknown"):
        load_bundle(bundle)
    rewrite(bundle, format="evergreen.bundle/9")
    with pytest.raises(BundleError, match=r"evergreen\.bundle/9"):
        load_bundle(bundle)
    (bundle / MANIFEST).write_text("{}")
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(bundle)


def test_files_of_another_shape_are_refused(bundle):
    text = "{}"
    (bundle / "preprocessing.json").write_text(text)
    from hashlib import sha256

    files = json.loads((bundle / MANIFEST).read_text())["manifest"]["files"]
    rewrite(bundle, files=files | {"preprocessing.json": sha256(text.encode()).hexdigest()})
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(bundle)


def test_a_missing_feature_is_named(bundle, frame):
    loaded = load_bundle(bundle)
    with pytest.raises(BundleError, match=r"needs feature 'country', which the input lacks$"):
        loaded.predict(frame.drop(columns="country"))
    with pytest.raises(BundleError, match=r"'pair_purchases', which the input lacks \(and 2 more\)"):
        loaded.predict({})


@pytest.mark.parametrize("model", ["lightgbm", "hist_boosting", "random_forest", "ensemble"])
def test_every_model_names_the_feature_that_it_misses(model, frame, tmp_path):
    made = train(model, frame, tmp_path / "bundle")
    with pytest.raises(BundleError, match=rf"model {model} needs feature 'pair_recency_days', which the input lacks$"):
        made.predict(frame.drop(columns="pair_recency_days"))


def test_an_ensemble_is_stored_with_its_folders(frame, tmp_path):
    made = train("ensemble", frame, tmp_path / "bundle")
    stored = store_bundle(tmp_path / "bundle", tmp_path / "models")
    np.testing.assert_array_equal(load_bundle(stored, made.digest).predict(frame), made.predict(frame))
    (stored / "logistic" / "extra.pkl").write_text("x")
    with pytest.raises(BundleError, match=r"file logistic/extra\.pkl is not in its manifest"):
        load_bundle(stored)


def test_a_model_that_is_not_used_costs_no_import():
    code = (
        "import sys; from evergreen.models.candidate import candidate_class, known_models;"
        "[candidate_class(model) for model in known_models()];"
        "heavy = {'lightgbm', 'onnx', 'onnxruntime', 'sklearn', 'torch', 'xgboost'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_no_rows_give_no_probabilities(bundle, frame):
    assert load_bundle(bundle).predict(frame.head(0)).shape == (0,)


def test_a_bundle_is_stored_once_under_its_digest(bundle, tmp_path):
    first = store_bundle(bundle, tmp_path / "models")
    assert first.name == load_bundle(bundle).digest
    before = (first / "model-0.ubj").stat().st_mtime_ns
    assert store_bundle(bundle, tmp_path / "models") == first
    assert (first / "model-0.ubj").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "models").iterdir()] == [first.name]


def test_a_failed_write_leaves_the_bundle_that_was_there(bundle, frame, monkeypatch):
    from evergreen.models.candidates.xgboost import Xgboost

    digest = load_bundle(bundle).digest

    def full_disk(self, folder):
        raise OSError("no space left on device")

    monkeypatch.setattr(Xgboost, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        train("xgboost", frame, bundle, seed=9)
    assert load_bundle(bundle, digest).digest == digest
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_training_again_replaces_the_bundle(bundle, frame):
    made = train("xgboost", frame, bundle, seed=9)
    assert load_bundle(bundle).digest == made.digest


def test_a_heuristic_needs_its_feature(frame, tmp_path):
    from evergreen.errors import TrainingError

    with pytest.raises(TrainingError, match="'nope', which the training set lacks"):
        train("heuristic", frame, tmp_path / "a", feature="nope")


def test_a_heuristic_ranks_by_its_feature_alone(frame, tmp_path):
    made = train("heuristic", frame, tmp_path / "a", feature="pair_recency_days")
    assert made.features == ("pair_recency_days",)
    days = np.arange(0, 300, 7, dtype=np.float32)
    assert (np.diff(made.predict({"pair_recency_days": days})) < 0).all()  # longer ago is less likely
