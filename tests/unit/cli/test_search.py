from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from evergreen.cli.app import app
from evergreen.cli.search import budget, newest_training_set
from evergreen.errors import TrainingError
from evergreen.settings.search import SearchSettings, Strategy
from evergreen.training.search.workers import THREADS
from tests.weekly_set import make_set


def set_of(settings, name: str, day: str, made: int) -> None:
    folder = settings.home_path / "training_sets" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"day": day}))
    os.utime(folder / "manifest.json", (made, made))


def test_the_newest_training_set_is_that_of_the_newest_day(settings):
    with pytest.raises(TrainingError, match="holds no training set: make one by"):
        newest_training_set(settings)
    set_of(settings, "old", "2024-06-12", made=30)
    set_of(settings, "first", "2024-06-13", made=10)
    set_of(settings, "last", "2024-06-13", made=20)
    assert newest_training_set(settings).name == "last"


def test_options_stand_before_the_settings():
    changed = budget(SearchSettings(trials=5), {"seconds": 60.0, "trials": None, "strategy": Strategy.RANDOM})
    assert (changed.seconds, changed.trials, changed.strategy) == (60.0, 5, Strategy.RANDOM)
    with pytest.raises(TrainingError, match=r"^trials is 0: Input should be greater than or equal to 1"):
        budget(SearchSettings(), {"trials": 0})


def test_a_table_at_the_end(settings, monkeypatch):
    folder = settings.home_path / "training_sets" / "a"
    folder.mkdir(parents=True)
    make_set(folder)
    monkeypatch.setenv("EVERGREEN__TRAINING__SEARCH__SPACES", '{"xgboost": {"max_depth": {"low": 2, "high": 8}}}')
    monkeypatch.setenv("EVERGREEN__TRAINING__THREADS", "1")
    for name in THREADS:  # set by what is tested: back to what they were
        monkeypatch.setenv(name, "1")
    told = CliRunner().invoke(app, ["search", "--trials", "2", "--strategy", "random"])
    assert told.exit_code == 0, told.output
    assert "trial 2 of 2" in told.output
    assert "max_depth" in told.output
    assert "of 2 trials in" in told.output
