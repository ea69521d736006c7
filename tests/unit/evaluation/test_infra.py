"""A bundle in a limited process: what loads and agrees, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evergreen.evaluation.infra import validate
from evergreen.models.bundle import Bundle, load_bundle
from evergreen.settings.checks import InfraSettings
from evergreen.training.dataset import HOLDOUT, TrainingSet
from evergreen.training.spec import TrainSpec
from evergreen.training.trainer import train

SETTINGS = InfraSettings()


@pytest.fixture(scope="module")
def bundle(filled_training_set: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    folder = tmp_path_factory.mktemp("infra") / "bundle"
    made = filled_training_set
    spec = TrainSpec(
        candidate="frequency",
        model="heuristic",
        params={"feature": "pair_purchases"},
        seed=1,
        training_set={"folder": made.folder, "digest": made.digest},
        model_name="m",
    )
    train(spec, folder)
    return folder, load_bundle(folder)


@pytest.fixture
def golden(filled_training_set: TrainingSet) -> pd.DataFrame:
    return pd.read_parquet(filled_training_set.file(HOLDOUT)).iloc[:50]


def test_a_sound_bundle_answers_there_as_here(bundle: tuple[Path, Bundle], golden: pd.DataFrame) -> None:
    folder, here = bundle
    found = validate(folder, here.digest, golden, here.predict(golden), SETTINGS)
    assert (found["loaded"], found["max_difference"]) == (True, 0.0)
    assert found["size_bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    assert 0 < found["load_seconds"] < SETTINGS.max_load_seconds
    assert 50 * 2**20 < found["peak_bytes"] < SETTINGS.max_memory_mb * 2**20
    assert found["row_ms"] >= 0
    json.dumps(found)


def test_other_predictions_are_seen(bundle: tuple[Path, Bundle], golden: pd.DataFrame) -> None:
    folder, here = bundle
    found = validate(folder, here.digest, golden, here.predict(golden) + 0.01, SETTINGS)
    assert found["max_difference"] == pytest.approx(0.01)
    assert validate(folder, here.digest, golden, np.full(50, np.nan), SETTINGS)["max_difference"] == 1.0


def test_an_altered_bundle_does_not_load(bundle: tuple[Path, Bundle], golden: pd.DataFrame, tmp_path: Path) -> None:
    folder, here = bundle
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "heuristic.json").write_text((copy / "heuristic.json").read_text() + " ")
    found = validate(copy, here.digest, golden, here.predict(golden), SETTINGS)
    assert not found["loaded"]
    assert "heuristic.json was altered" in found["problem"]
    assert str(tmp_path) not in found["problem"], "evidence holds no path"


def test_too_little_memory_ends_it(bundle: tuple[Path, Bundle], golden: pd.DataFrame) -> None:
    folder, here = bundle
    found = validate(folder, here.digest, golden, here.predict(golden), InfraSettings(max_memory_mb=60))
    assert not found["loaded"]
    assert "it ended with code" in found["problem"]


def test_what_does_not_answer_in_time_is_ended(bundle: tuple[Path, Bundle], golden: pd.DataFrame) -> None:
    folder, here = bundle
    found = validate(folder, here.digest, golden, here.predict(golden), InfraSettings(timeout_seconds=0.01))
    assert not found["loaded"]
    assert found["problem"] == "no answer within 0.01 s"


def test_a_feature_that_is_gone_is_named(bundle: tuple[Path, Bundle], golden: pd.DataFrame) -> None:
    folder, here = bundle
    found = validate(folder, here.digest, golden.drop(columns="pair_purchases"), here.predict(golden), SETTINGS)
    assert "needs feature 'pair_purchases'" in found["problem"]
