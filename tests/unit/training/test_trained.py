from __future__ import annotations

import json

import pytest

from evergreen.training.spec import TrainSpec
from evergreen.training.trained import BUNDLE, RESULT, keep_trained, trained_before, trained_folder
from evergreen.training.trainer import train


@pytest.fixture
def spec(filled_training_set) -> dict:
    return {
        "candidate": "frequency",
        "model": "heuristic",
        "params": {"feature": next(name for name, kind in filled_training_set.features if kind == "number")},
        "seed": 5,
        "training_set": {"folder": str(filled_training_set.folder), "digest": filled_training_set.digest},
        "model_name": "buy-it-again",
    }


@pytest.fixture
def trained(settings, spec):
    """The folder of a finished training."""
    folder = trained_folder(settings, spec)
    folder.mkdir(parents=True)
    keep_trained(folder, train(TrainSpec.model_validate(spec), folder / BUNDLE))
    return folder


def test_a_finished_training_is_found(trained):
    found = trained_before(trained)
    assert found["candidate"] == "frequency"
    assert found["folder"] == str(trained / BUNDLE)


def test_before_that_there_is_none(settings, spec):
    assert trained_before(trained_folder(settings, spec)) is None


def test_what_was_not_finished_does_not_count(trained):
    (trained / RESULT).unlink()
    assert trained_before(trained) is None


def test_a_bundle_that_was_altered_is_trained_again(trained):
    file = next(file for file in (trained / BUNDLE).iterdir() if file.name != "manifest.json")
    file.write_bytes(file.read_bytes() + b" ")
    assert trained_before(trained) is None


@pytest.mark.parametrize("text", ["", "{", "{}", json.dumps({"bundle_digest": "0" * 64})])
def test_a_result_that_cannot_be_read_does_not_count(trained, text):
    (trained / RESULT).write_text(text)
    assert trained_before(trained) is None


def test_another_spec_or_code_has_another_folder(settings, spec, monkeypatch):
    folder = trained_folder(settings, spec)
    assert trained_folder(settings, spec | {"seed": 6}) != folder
    assert trained_folder(settings, spec | {"threads": 3}) == folder  # changes the time, not the model
    monkeypatch.setattr("evergreen.training.trained.code_digest", lambda: "other")
    assert trained_folder(settings, spec) != folder
