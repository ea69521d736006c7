from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from evergreen.errors import TrainingError  # noqa: E402 (torch may be missing)
from evergreen.models.network.checkpoint import Checkpoints  # noqa: E402

TENSORS = {"model.weight": torch.arange(6.0).reshape(2, 3), "optimizer.0.step": torch.tensor(4.0)}
STATE = {"epoch": 2, "best_loss": 0.25}


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    made = Checkpoints(tmp_path / "work", {"spec": "a" * 64, "graph": "b" * 64})
    made.save(TENSORS, STATE)
    return made


def test_what_is_saved_is_loaded(checkpoints):
    tensors, state = checkpoints.load()
    assert state == STATE
    assert set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_the_newest_replaces_the_one_before(checkpoints):
    checkpoints.save(TENSORS, STATE | {"epoch": 3})
    assert checkpoints.load()[1]["epoch"] == 3
    assert [file.name for file in checkpoints.file.parent.iterdir()] == ["checkpoint.safetensors"]


def test_there_is_none_at_first(tmp_path):
    assert Checkpoints(tmp_path, {}).load() is None


@pytest.mark.fault
@pytest.mark.parametrize("name", ["spec", "graph"])
def test_a_checkpoint_of_another_model_is_refused_by_name(name, checkpoints, tmp_path):
    other = Checkpoints(tmp_path / "work", checkpoints.identity | {name: "c" * 64})
    with pytest.raises(TrainingError, match=rf"of another training, its {name} is [ab]+, not c+: remove it to train"):
        other.load()


@pytest.mark.fault
def test_a_flipped_byte_is_found_wherever_it_is(checkpoints):
    content = checkpoints.file.read_bytes()
    for at in range(8, len(content), 13):
        altered = bytearray(content)
        altered[at] ^= 1
        checkpoints.file.write_bytes(bytes(altered))
        with pytest.raises(TrainingError, match=r"was altered|cannot be read"):
            checkpoints.load()
    checkpoints.file.write_bytes(content)
    checkpoints.load()  # control


@pytest.mark.fault
def test_half_a_file_is_named(checkpoints):
    content = checkpoints.file.read_bytes()
    for kept in (0, 5, len(content) // 2, len(content) - 1):
        checkpoints.file.write_bytes(content[:kept])
        with pytest.raises(TrainingError, match=r"checkpoint\.safetensors cannot be read .* remove it"):
            checkpoints.load()


@pytest.mark.fault
def test_a_full_disk_leaves_the_checkpoint_before(checkpoints, monkeypatch):
    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evergreen.models.network.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(TENSORS, STATE | {"epoch": 3})
    assert checkpoints.load()[1]["epoch"] == 2
    assert [file.name for file in checkpoints.file.parent.iterdir()] == ["checkpoint.safetensors"]
