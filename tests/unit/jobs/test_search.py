from __future__ import annotations

import json

import pytest

from evergreen.jobs.search import main
from evergreen.training.search.workers import THREADS
from tests.weekly_set import make_set


@pytest.fixture
def arguments(tmp_path, monkeypatch) -> list[str]:
    folder = tmp_path / "set"
    folder.mkdir()
    digest = make_set(folder).digest
    monkeypatch.setenv("EVERGREEN__TRAINING__THREADS", "1")
    for name in THREADS:  # set by what is tested: back to what they were
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("EVERGREEN__TRAINING__SEARCH__TRIALS", "2")
    monkeypatch.setenv("EVERGREEN__TRAINING__SEARCH__FOLDS", "1")
    monkeypatch.setenv("EVERGREEN__TRAINING__SEARCH__SPACES", '{"xgboost": {"max_depth": {"low": 2, "high": 8}}}')
    return ["--training-set", str(folder), "--digest", digest]


def test_a_line_for_each_trial_and_the_outcome_last(arguments, capsys):
    assert main([*arguments, "--model", "xgboost"]) == 0
    *told, last = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in told] == ["trial 1 of 2", "trial 2 of 2"]
    assert json.loads(last)["trials"]["complete"] == 2


def test_a_refusal_is_one_line(arguments, capsys):
    assert main([*arguments, "--model", "oracle"]) == 1
    assert capsys.readouterr().err.startswith("evergreen: model 'oracle' is unknown, must be one of")
