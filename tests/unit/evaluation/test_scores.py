from __future__ import annotations

from pathlib import Path

import numpy as np

from evergreen.evaluation.scores import Scores


def test_scores_survive_a_file(make_scores, tmp_path: Path) -> None:
    scores = make_scores(50, 5)
    again = Scores.load(scores.save(tmp_path / "deep" / "scores.parquet"))
    assert again.probabilities.tobytes() == scores.probabilities.tobytes()
    assert again.labels.dtype == np.int8
    again.check_same_pairs(scores)
    assert {name: labels.tolist() for name, labels in again.slices.items()} == {
        name: labels.tolist() for name, labels in scores.slices.items()
    }


def test_take_keeps_rows_together(make_scores) -> None:
    scores = make_scores(50, 5)
    part = scores.take(np.array([7, 3]))
    assert part.product_ids.tolist() == ["p7", "p3"]
    assert part.slices["country"].tolist() == scores.slices["country"][[7, 3]].tolist()
