"""What the bench of explanations measures."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from evergreen.errors import TrainingError
from evergreen.jobs.bench_explain import OURS, PEER, bench, explain_side, main
from evergreen.settings import Settings


def test_without_a_training_set_it_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(TrainingError, match=r"holds no training set: run the loop once"):
        bench(None, None, 10, settings)


def test_a_bundle_of_another_model_is_refused(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--training-set", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert OURS != PEER


def test_both_sides_explain_the_prepared_rows_alike(tmp_path) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(1_200, 5)).astype(np.float32)
    labels = matrix[:, 0] * matrix[:, 1] + matrix[:, 2] > 0
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(matrix, labels), 5)
    booster.save_model(tmp_path / "model.ubj")
    np.save(tmp_path / "matrix.npy", matrix)
    for side in (OURS, PEER):
        assert set(explain_side(side, tmp_path)) == {"cpu_seconds", "wall_seconds"}
    ours, peer = (np.load(tmp_path / f"{side}.npy") for side in (OURS, PEER))
    assert ours.shape == (1_200, 5)
    np.testing.assert_allclose(ours, peer, atol=1e-5)
