"""The benches of verdict and poison, on a shop that takes a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evergreen.errors import TrainingError
from evergreen.jobs import bench_poisoning, bench_verdict
from evergreen.jobs.bench_verdict import training_set_on
from evergreen.training.dataset import TrainingSet


def test_real_scores_come_from_members_that_differ(filled_training_set: TrainingSet, monkeypatch) -> None:
    monkeypatch.setattr(bench_verdict, "MEMBERS", 3)
    monkeypatch.setattr(bench_verdict, "ROUNDS", 5)
    frame_rows = filled_training_set.rows["holdout"]
    monkeypatch.setattr(
        "evergreen.evaluation.report.slice_labels", lambda frame: {"country": frame["country"].to_numpy()}
    )
    real = bench_verdict.real_scores(filled_training_set, threads=1)
    assert real.members.shape == (3, frame_rows)
    assert (real.members[0] != real.members[1]).any()
    assert real.scores.probabilities == pytest.approx(real.members.mean(axis=0), rel=1e-5)
    assert real.weaker.shape == (frame_rows,)


def test_planted_poison_is_found_in_a_shop(
    filled_training_set: TrainingSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "poisoning.json"
    arguments = ["--on", str(filled_training_set.folder), "--trials", "1", "--out", str(out)]
    assert bench_poisoning.main(arguments) == 0
    found = json.loads(out.read_text())
    assert found == json.loads(capsys.readouterr().out)
    assert found["clean"]["labels"]["contradicted_share"] == 0.0
    flipped = {row["amount"]: row for row in found["planted"] if row["kind"] == "labels flipped at random"}
    assert flipped[0.05]["stopped"] == 1.0
    assert flipped[0.05]["labels_contradicted"] == pytest.approx(0.05, abs=0.02)


def test_a_home_gives_its_newest_training_set(filled_training_set: TrainingSet, tmp_path: Path) -> None:
    assert training_set_on(filled_training_set.folder).digest == filled_training_set.digest
    home = filled_training_set.folder.parent.parent
    assert training_set_on(home).digest == filled_training_set.digest
    with pytest.raises(TrainingError, match="holds no training set"):
        training_set_on(tmp_path)
