from __future__ import annotations

import copy
import logging
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from evergreen.errors import TrainingError  # noqa: E402 (torch may be missing)
from evergreen.models.network import loop  # noqa: E402
from evergreen.models.network.checkpoint import Checkpoints  # noqa: E402
from evergreen.models.network.graph import Network  # noqa: E402
from evergreen.models.network.layout import Layout  # noqa: E402
from evergreen.models.network.loop import Recipe, batch_rows, learning_rate, seed_of, train  # noqa: E402
from evergreen.models.network.rows import Rows  # noqa: E402
from evergreen.models.network.team import Team, reproducible  # noqa: E402

ALONE = Team(0, 1, torch.device("cpu"))
RECIPE = Recipe(
    epochs=4,
    patience=4,
    batch_rows=64,
    learning_rate=0.01,
    warmup_share=0.1,
    weight_decay=0.01,
    clip_norm=1.0,
    seed=3,
    checkpoint_seconds=0.0,
)


def table(rows: int = 400, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, 5)).astype(np.float32)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-2 * matrix[:, 0]))).astype(np.int8)
    return Rows.of(matrix, labels, ALONE.device)


def network(dropout: float = 0.2) -> Network:
    torch.manual_seed(1)
    return Network(Layout(("a", "b", "c", "d", "e"), (0, 1, 2, 3, 4), (), (), 0, (), 4, 16, 1, dropout))


def trained(recipe: Recipe = RECIPE, checkpoints: Checkpoints | None = None, dropout: float = 0.2):
    model = network(dropout)
    with reproducible():
        progress = train(model, table(), table(200, 9), recipe, ALONE, checkpoints)
    return model, progress


def same(one, other) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_learns_and_keeps_the_best_epoch():
    model, progress = trained(replace(RECIPE, epochs=12, patience=12))
    assert progress.best_loss == min(progress.losses)
    assert progress.best_loss < 0.53 < progress.losses[0]
    rows = table(200, 9)
    logits = model.eval()(rows.inputs).detach()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, rows.labels)
    assert float(loss) == pytest.approx(progress.best_loss, rel=1e-5)


def test_it_stops_when_nothing_gets_better():
    _, progress = trained(replace(RECIPE, epochs=50, patience=2, learning_rate=0.3))
    assert progress.epoch == progress.best_epoch + 1 + 2 < 50


class KilledError(Exception):
    pass


def interrupted(tmp_path, monkeypatch, after: int) -> Checkpoints:
    """A training that ended in the middle of its second epoch, without being told."""
    checkpoints = Checkpoints(tmp_path, {"spec": "s"})
    steps = iter(range(10_000))

    def tell(self):
        if next(steps) == after:
            raise KilledError

    monkeypatch.setattr(loop._Training, "_tell", tell)
    with pytest.raises(KilledError):
        trained(checkpoints=checkpoints)
    monkeypatch.undo()
    return checkpoints


@pytest.mark.fault
@pytest.mark.parametrize("after", [1, 5, 6, 8, 12, 23])
def test_an_interrupted_training_ends_as_if_it_had_not_been(after, tmp_path, monkeypatch, caplog):
    whole, progress = trained()
    checkpoints = interrupted(tmp_path, monkeypatch, after)
    with caplog.at_level(logging.INFO):
        resumed, again = trained(checkpoints=checkpoints)
    assert "goes on from a checkpoint" in caplog.text
    assert same(whole, resumed)
    assert vars(again) == vars(progress)


def forget_moments(self, tensors, state, restore=loop._Training._restore):
    restore(self, {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer")}, state)


def forget_the_step(self, tensors, state, restore=loop._Training._restore):
    restore(self, tensors, state | {"step": 0})


@pytest.mark.fault
@pytest.mark.parametrize("broken", [forget_moments, forget_the_step])
def test_a_checkpoint_that_forgets_something_is_noticed(broken, tmp_path, monkeypatch):
    """Control: the test above would see a restore that leaves something out."""
    whole, _ = trained()
    checkpoints = interrupted(tmp_path, monkeypatch, 8)
    monkeypatch.setattr(loop._Training, "_restore", broken)
    resumed, _ = trained(checkpoints=checkpoints)
    assert not same(whole, resumed)


@pytest.mark.fault
def test_random_numbers_that_are_not_of_the_step_are_noticed(tmp_path, monkeypatch):
    """Control: with dropout drawn as the process goes, a resumed training would draw otherwise."""

    def of_the_epoch_alone(*parts):
        return seed_of(*parts) if parts[1] == "order" else torch.initial_seed()

    whole, _ = trained()
    checkpoints = interrupted(tmp_path, monkeypatch, 8)
    monkeypatch.setattr(loop, "seed_of", of_the_epoch_alone)
    resumed, _ = trained(checkpoints=checkpoints)
    assert not same(whole, resumed)


@pytest.mark.fault
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_short_of_memory_smaller_parts_are_tried_and_said(error, monkeypatch, caplog):
    """The batch of a step stays the same, so that the weights do but for rounding."""
    original = Rows.take
    largest: list[int] = []

    def take(self, indexes):
        if len(indexes) > 16:
            raise error
        largest.append(len(indexes))
        return original(self, indexes)

    whole, _ = trained(dropout=0.0)
    monkeypatch.setattr(Rows, "take", take)
    with caplog.at_level(logging.INFO):  # progress is told beside, where an earlier test has set the level
        model, progress = trained(dropout=0.0)
    assert progress.micro_rows == max(largest) == 16
    assert [record.args for record in caplog.records if record.levelno == logging.WARNING] == [(64, 32), (32, 16)]
    assert "out of memory with 64 rows at once: trying 32" in caplog.text
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=1e-3, atol=1e-4)


@pytest.mark.fault
def test_no_batch_at_all_is_refused(monkeypatch):
    def take(self, indexes):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Rows, "take", take)
    with pytest.raises(TrainingError, match=r"out of memory with 8 rows at once.*make width or depth smaller"):
        trained()


def test_another_error_is_not_taken_for_short_memory(monkeypatch):
    def take(self, indexes):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Rows, "take", take)
    with pytest.raises(RuntimeError, match="shapes"):
        trained()


@pytest.mark.fault
def test_a_loss_that_is_no_number_ends_the_training():
    rows = table()
    rows.inputs[7, 0] = math.nan
    with pytest.raises(TrainingError, match=r"validation loss is nan after epoch 1.*lower learning_rate"):
        train(network(), rows, table(200, 9), RECIPE, ALONE)


def test_every_row_is_seen_once_an_epoch(tmp_path):
    order = table().order(5)
    assert sorted(order.tolist()) == list(range(400))
    assert not torch.equal(order, table().order(6))


def test_rows_of_a_file_are_mixed_within_windows(tmp_path, monkeypatch):
    monkeypatch.setattr("evergreen.models.network.rows.WINDOW_ROWS", 64)
    matrix = np.lib.format.open_memmap(tmp_path / "m.npy", "w+", np.float32, (400, 5))
    matrix[:] = np.arange(2000).reshape(400, 5)
    matrix.flush()
    rows = Rows.of(np.load(tmp_path / "m.npy", mmap_mode="r"), np.zeros(400, np.int8), ALONE.device)
    order = rows.order(5)
    assert sorted(order.tolist()) == list(range(400))
    windows = [set((order[start : start + 64] // 64).tolist()) for start in range(0, 384, 64)]
    assert max(len(window) for window in windows) <= 2  # the last window is short, so that two may meet
    inputs, _, weights = rows.take(order[:3])
    assert torch.equal(inputs, torch.from_numpy(np.asarray(matrix)[order[:3].numpy()]))
    assert weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("wanted", "rows", "processes", "expected"), [(64, 400, 1, 64), (64, 50, 1, 32), (64, 64, 4, 64), (96, 400, 3, 96)]
)
def test_batches(wanted, rows, processes, expected):
    assert batch_rows(wanted, rows, processes) == expected


@pytest.mark.parametrize(("wanted", "rows", "processes"), [(64, 400, 3), (64, 1, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(wanted, rows, processes):
    with pytest.raises(TrainingError, match=rf"cannot be shared by {processes} processes"):
        batch_rows(wanted, rows, processes)


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate(RECIPE, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[9] == pytest.approx(0.01)
    assert all(later <= earlier for earlier, later in pairwise(rates[9:]))
    assert rates[100] == pytest.approx(0)


def test_a_compiled_step_learns_the_same(monkeypatch):
    compiled = []

    def compile_(model, **options):
        compiled.append(options)
        return copy.copy(model)  # as torch's: another module with the same parameters

    monkeypatch.setattr(torch, "compile", compile_)
    model, _ = trained(replace(RECIPE, compiled=True))
    assert compiled == [{"dynamic": False}]
    assert same(model, trained()[0])
