"""What the bench of training measures."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from evergreen.jobs import bench_training
from evergreen.jobs.bench_training import main


def test_each_way_is_measured_against_its_peer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_training, "REPEATS", 1)
    out = tmp_path / "training.json"
    options = ["--rows", "2000", "--columns", "12", "--batch-rows", "256", "--rounds", "2", "--out", str(out)]
    assert main(options) == 0
    found = json.loads(out.read_text())
    assert found == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["command"].endswith("bench_training --rows 2000 --columns 12 --batch-rows 256 --rounds 2")
    network, xgboost = found["cpu"]["network"], found["cpu"]["xgboost"]
    ratio = network["ours_rows_per_second"] / network["dataloader_twin_rows_per_second"]
    assert network["ours_to_dataloader_twin_by_second"] == pytest.approx(ratio, abs=0.01)
    assert xgboost["ours_to_cpu_default_by_cpu_second"] > 0


def test_no_gpu_is_said_and_not_made_up(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench_training, "measure_network", lambda *arguments: {})
    monkeypatch.setattr(bench_training, "measure_xgboost", lambda *arguments: {})
    assert bench_training.measure(100, 10, 16, 1)["gpu"] == "not measured: this machine has no GPU that torch can use"


def test_without_torch_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(bench_training, "find_spec", lambda name: None)
    assert main([]) == 1
    assert "needs torch, which this environment lacks: set EVERGREEN_TORCH" in capsys.readouterr().err
