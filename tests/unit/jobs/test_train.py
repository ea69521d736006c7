"""The trainer's entry point as torchrun starts it: two processes, one bundle, one JSON line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from evergreen.models.bundle import load_bundle
from evergreen.training.dataset import TrainingSet

TRAIN = "import sys; from evergreen.jobs.train import main; sys.exit(main())"


@pytest.mark.slow
def test_two_processes_give_one_bundle(filled_training_set: TrainingSet, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    spec = {
        "candidate": "network",
        "model": "network",
        "params": {"epochs": 2, "batch_rows": 64, "width": 8},
        "seed": 7,
        "training_set": {"folder": str(filled_training_set.folder), "digest": filled_training_set.digest},
        "model_name": "buy-it-again",
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    arguments = ["--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path / "bundle")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "PATH": os.environ["PATH"],
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, *arguments],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    result = json.loads(said[0][0].splitlines()[-1])
    assert said[1][0] == ""  # one line in all
    report = load_bundle(tmp_path / "bundle", result["bundle_digest"]).manifest["report"]
    assert (report["processes"], report["device"]) == (2, "cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "spec.json"]
