from __future__ import annotations

import json

from evergreen.jobs.build_training_set import main
from evergreen.training import dataset


def test_the_job_prints_the_summary(shop, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "feast_join", lambda *_: shop.join)
    assert main(["--day", str(shop.day), "--run-id", "r1"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["rows"]["train"] > 0
    assert dataset.TrainingSet.open(said["folder"], said["digest"]).manifest["run_id"] == "r1"


def test_the_job_says_in_one_line_what_is_missing(home, capsys):
    assert main(["--day", "2024-05-01"]) == 1
    assert capsys.readouterr().err == "evergreen: the lake has no release of transactions: publish transactions first\n"
