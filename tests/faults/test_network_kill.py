"""The trainer of the network is killed in the middle of an epoch, again and again: the weights are those of no kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("torch")

from safetensors import safe_open

from evergreen.models.network.checkpoint import FILE
from evergreen.settings import load_settings
from evergreen.training.dataset import TrainingSet, build_training_set
from tests.shop import FIRST, Shop, publish_purchases, purchases_of

pytestmark = [pytest.mark.fault, pytest.mark.slow]

PARAMS = {"epochs": 8, "patience": 8, "batch_rows": 32, "width": 64, "dropout": 0.2, "checkpoint_seconds": 0}
TRAIN = "import sys; from evergreen.jobs.train import main; sys.exit(main())"
# The broken variant: what dropout draws depends on how long the process has been running, not on the step.
CARELESS = f"from evergreen.models.network import loop; loop.torch.manual_seed = lambda seed: None; {TRAIN}"


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    settings = load_settings("local").model_copy(update={"home": tmp_path_factory.mktemp("killed")})
    purchases, day = purchases_of(60, 20, 170), FIRST + timedelta(days=169)
    publish_purchases(settings, purchases, day)
    return build_training_set(settings, day, join=Shop(settings, purchases, day).join)


def start(training_set: TrainingSet, folder: Path, code: str = TRAIN) -> subprocess.Popen[str]:
    spec = {
        "candidate": "network",
        "model": "network",
        "params": PARAMS,
        "seed": 5,
        "training_set": {"folder": str(training_set.folder), "digest": training_set.digest},
        "model_name": "buy-it-again",
    }
    folder.mkdir(exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    arguments = ["--spec", str(folder / "spec.json"), "--out", str(folder / "bundle")]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    result: dict[str, object] = json.loads(out.splitlines()[-1])
    return result


def where(folder: Path) -> tuple[int, int]:
    """Epoch and step of the newest checkpoint."""
    file = folder / ".bundle.work" / FILE
    if not file.exists():
        return 0, 0
    with safe_open(file, framework="pt") as stored:
        state = json.loads(stored.metadata()["said"])["state"]
    return state["epoch"], state["step"]


def kill_within_epoch(process: subprocess.Popen[str], folder: Path, epoch: int) -> tuple[int, int]:
    """Stops the trainer once it is some steps into an epoch, looks where it is, and kills it there."""
    while process.poll() is None:
        if where(folder) > (epoch, 3):
            process.send_signal(signal.SIGSTOP)
            at = where(folder)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return at
        time.sleep(0.002)
    pytest.fail(f"the trainer ended before it was killed: {process.communicate()[1]}")


def weights(folder: Path) -> bytes:
    return (folder / "bundle" / "network.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(training_set: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(training_set, folder))
    return folder


def test_five_kills_within_an_epoch_leave_the_same_weights(training_set, undisturbed, tmp_path):
    kills = [kill_within_epoch(start(training_set, tmp_path), tmp_path, epoch) for epoch in range(1, 6)]
    assert kills == sorted(kills)
    assert all(step > 3 for _, step in kills)  # never at the start of an epoch
    resumed = finish(start(training_set, tmp_path))
    assert weights(tmp_path) == weights(undisturbed)
    assert resumed["bundle_digest"] == json.loads((undisturbed / "bundle" / "bundle.json").read_text())["digest"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "spec.json"]  # no checkpoint is left


def test_randomness_that_the_process_carries_is_noticed(training_set, tmp_path):
    """Control: dropout that is not drawn by the step differs after a kill."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(training_set, whole, CARELESS))
    kill_within_epoch(start(training_set, killed, CARELESS), killed, 1)
    finish(start(training_set, killed, CARELESS))
    assert weights(killed) != weights(whole)


def test_a_kill_costs_what_was_done_since_the_checkpoint(training_set, undisturbed, tmp_path):
    """Control: with its checkpoint taken away the trainer starts at the first step, and gets there all the same."""
    epoch, _ = kill_within_epoch(start(training_set, tmp_path), tmp_path, 3)
    (tmp_path / ".bundle.work" / FILE).unlink()
    again = start(training_set, tmp_path)
    while again.poll() is None and where(tmp_path) == (0, 0):
        time.sleep(0.002)
    assert where(tmp_path) < (epoch, 0)
    finish(again)
    assert weights(tmp_path) == weights(undisturbed)


def test_a_checkpoint_of_another_spec_is_refused_by_name(training_set, tmp_path):
    kill_within_epoch(start(training_set, tmp_path), tmp_path, 1)
    other = PARAMS | {"learning_rate": 0.005}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "PARAMS", other)
        refused = start(training_set, tmp_path)
    _, errors = refused.communicate(timeout=100)
    assert refused.returncode == 1
    assert "is of another training, its spec is" in errors
    assert "remove it to train from the start" in errors.splitlines()[-1]
    assert not (tmp_path / "bundle").exists()
