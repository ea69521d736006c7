"""Two processes that train together against one that trains alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402 (torch may be missing)

from evergreen.models.network.graph import Network  # noqa: E402
from evergreen.models.network.layout import Category, Layout  # noqa: E402
from evergreen.models.network.loop import Recipe, train  # noqa: E402
from evergreen.models.network.rows import Rows  # noqa: E402
from evergreen.models.network.team import reproducible, team  # noqa: E402

TOLERANCE = 1e-5
"""Of a weight after 21 steps: a sum of two halves rounds otherwise than the whole. Dropout is off: each process would
draw for its own rows."""

CHILD = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("test_team", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.train_and_save(Path(sys.argv[2]))
"""


def train_and_save(folder: Path) -> None:
    """What each process does: the rank comes from the environment, as torchrun sets it."""
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(700, 6)).astype(np.float32)
    matrix[:, 5] = rng.integers(-1, 3, 700)
    labels = (rng.random(700) < 1 / (1 + np.exp(-2 * matrix[:, 0]))).astype(np.int8)
    layout = Layout(("a", "b", "c", "d", "e", "country"), (0, 1, 2, 3, 4), (Category(5, 4),), (), 0, (), 4, 16, 1, 0.0)
    recipe = Recipe(3, 3, 64, 0.01, 0.1, 0.01, 1.0, 3, 0.0)
    torch.manual_seed(1)
    with reproducible(), team("cpu") as members:
        rows = Rows.of(matrix[:500], labels[:500], members.device)
        model = Network(layout)
        progress = train(model, rows, Rows.of(matrix[500:], labels[500:], members.device), recipe, members)
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / f"{members.rank}.safetensors", {"losses": str(progress.losses)})


def processes(size: int, folder: Path) -> dict[str, torch.Tensor]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, __file__, str(folder)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * size
    return load_file(folder / "0.safetensors")


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    train_and_save(tmp_path)
    alone = load_file(tmp_path / "0.safetensors")
    together = processes(2, tmp_path)
    other = load_file(tmp_path / "1.safetensors")
    for name, tensor in together.items():
        assert torch.equal(tensor, other[name])  # members agree to the bit
        torch.testing.assert_close(tensor, alone[name], rtol=0, atol=TOLERANCE)
    assert any(not torch.equal(tensor, alone[name]) for name, tensor in together.items())  # control: it was two


@pytest.mark.slow
def test_the_tolerance_is_less_than_what_a_seed_changes(tmp_path, monkeypatch):
    """Control: a training in another order is far outside the tolerance."""
    train_and_save(tmp_path)
    alone = load_file(tmp_path / "0.safetensors")
    monkeypatch.setattr("evergreen.models.network.loop.seed_of", lambda *parts: 5)
    train_and_save(tmp_path)
    other = load_file(tmp_path / "0.safetensors")
    assert max(float((other[name] - alone[name]).abs().max()) for name in alone) > 100 * TOLERANCE


def test_one_process_is_a_team_of_its_own():
    with team("cpu") as alone:
        assert (alone.rank, alone.size, str(alone.device)) == (0, 1, "cpu")
        assert alone.least(5) == 5
        assert alone.sum(torch.tensor([2.0])).tolist() == [2.0]
        alone.wait()


def test_reproducible_leaves_torch_as_it_was():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with reproducible():
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
