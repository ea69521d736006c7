"""What the bench of explanations measures."""

from __future__ import annotations

import pytest

from evergreen.errors import TrainingError
from evergreen.jobs.bench_explain import OURS, PEER, bench, main
from evergreen.settings import Settings


def test_without_a_training_set_it_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(TrainingError, match=r"holds no training set: run the loop once"):
        bench(None, None, 10, settings)


def test_a_bundle_of_another_model_is_refused(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--training-set", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert OURS != PEER
