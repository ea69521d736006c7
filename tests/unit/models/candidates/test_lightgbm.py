from __future__ import annotations

import numpy as np
import pytest

from evergreen.models.candidates.lightgbm import Lightgbm
from evergreen.models.params import resolve

SMALL = {"rounds": 40, "num_leaves": 8, "min_data_in_leaf": 5, "min_sum_hessian_in_leaf": 1.0, "learning_rate": 0.2}


def fitted(train, validation, *, seed=3, threads=1, **params):
    candidate = Lightgbm()
    resolved = resolve("lightgbm", SMALL | params, Lightgbm.ranges)
    return candidate, candidate.fit(train, validation, resolved, seed=seed, threads=threads)


def texts(candidate, folder):
    folder.mkdir()
    candidate.save(folder)
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_seed_gives_the_same_text_with_any_number_of_threads(threads, train, validation, tmp_path):
    first = texts(fitted(train, validation)[0], tmp_path / "a")
    assert sorted(first) == ["model-0.txt", "model-1.txt", "model-2.txt"]
    assert texts(fitted(train, validation, threads=threads)[0], tmp_path / "b") == first
    assert texts(fitted(train, validation, seed=4)[0], tmp_path / "c") != first
    assert len(set(first.values())) == 3  # each bag has another draw


def test_what_was_saved_scores_the_same_row_by_row(train, validation, tmp_path):
    candidate, _ = fitted(train, validation)
    candidate.save(tmp_path)
    loaded = Lightgbm.load(tmp_path)
    scores = candidate.predict(validation.matrix)
    np.testing.assert_array_equal(loaded.predict(validation.matrix), scores)
    alone = np.concatenate([loaded.predict(validation.matrix[row : row + 1]) for row in range(20)])
    np.testing.assert_array_equal(alone, scores[:20])


def test_it_stops_by_the_validation_rows_and_keeps_the_best_round(train, validation):
    candidate, report = fitted(train, validation, rounds=500, learning_rate=0.5, early_stopping_rounds=5, bags=1)
    assert 1 <= report["best_iteration"] < 100
    assert candidate.boosters[0].num_trees() == report["best_iteration"]


def test_a_share_of_the_negatives_keeps_the_level_of_probabilities(train, validation):
    candidate, report = fitted(train, validation, negative_share=0.3)
    assert report["fitted_rows"] < 0.8 * len(train.labels)
    assert abs(candidate.predict(validation.matrix).mean() - validation.labels.mean()) < 0.05


def test_contributions_rebuild_the_scores(train, validation):
    candidate, _ = fitted(train, validation)
    found = candidate.contributions(validation.matrix, train.matrix)
    assert found.values.shape == (1_000, 5)
    np.testing.assert_allclose(found.scores, candidate.predict(validation.matrix), rtol=1e-9)


def test_a_text_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model-0.txt").write_text("tree\nnothing\n")
    with pytest.raises(ValueError, match="no model that LightGBM reads"):
        Lightgbm.load(tmp_path)
