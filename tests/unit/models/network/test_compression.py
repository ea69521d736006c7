from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from evergreen.errors import TrainingError  # noqa: E402 (torch may be missing)
from evergreen.models.candidate import Sample, twin_params  # noqa: E402
from evergreen.models.candidates.network import LAYOUT, WEIGHTS, NetworkCandidate  # noqa: E402
from evergreen.models.network import compression  # noqa: E402
from evergreen.models.network.compression import Parity, compress, expand  # noqa: E402
from evergreen.models.params import resolve, stated  # noqa: E402
from evergreen.models.text import TOKENS  # noqa: E402

NAMES = ("pair_purchases", "pair_recency_days", "country", *(f"description {place}" for place in range(TOKENS)))
SMALL = {"epochs": 2, "batch_rows": 128, "width": 16, "learning_rate": 0.01}


def sample(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(600, len(NAMES))).astype(np.float32)
    matrix[:, 2:] = rng.integers(-1, 8, (600, len(NAMES) - 2))
    labels = (rng.random(600) < 1 / (1 + np.exp(1 - 2 * matrix[:, 0]))).astype(np.int8)
    return Sample(matrix, labels, NAMES)


def fitted(**params):
    candidate = NetworkCandidate()
    resolved = resolve("network", SMALL | params, NetworkCandidate.ranges)
    return candidate, candidate.fit(sample(1), sample(2), resolved, seed=3, threads=1)


def test_each_row_keeps_its_own_scale_and_half_a_step_of_it():
    weights = {"linear": torch.tensor([[0.001, -0.002], [30.0, 10.0], [0.0, 0.0]]), "bias": torch.tensor([0.5])}
    tensors = compress(weights)
    assert tensors["linear"].dtype == torch.int8
    assert tensors["linear"].tolist() == [[64, -127], [127, 42], [0, 0]]
    found = expand(tensors)
    assert set(found) == set(weights)
    assert torch.equal(found["bias"], weights["bias"])
    assert bool(((found["linear"] - weights["linear"]).abs() <= tensors["linear.scale"][:, None] / 2 + 1e-9).all())


def test_what_was_never_compressed_is_left_alone():
    weights = {"linear": torch.randn(3, 4), "encoder.scale": torch.randn(3)}
    assert expand(weights) == weights


@pytest.mark.fault
@pytest.mark.parametrize("scale", [None, torch.ones(2)])
def test_whole_numbers_without_their_scales_are_refused(scale):
    tensors = compress({"linear": torch.randn(3, 4)}) | ({} if scale is None else {"linear.scale": scale})
    if scale is None:
        del tensors["linear.scale"]
    with pytest.raises(ValueError, match=r"tensor linear is of whole numbers and has no scale for each of its rows"):
        expand(tensors)


def test_a_compressed_network_is_a_quarter_and_is_read_as_it_was_measured(tmp_path):
    exact, plain = fitted()
    small, report = fitted(int8=1)
    assert "int8" not in plain
    assert 0 < report["int8"]["max_difference"] <= 0.02
    (tmp_path / "exact").mkdir()
    (tmp_path / "small").mkdir()
    exact.save(tmp_path / "exact")
    small.save(tmp_path / "small")
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("small", "exact")]
    assert sizes[0] < 0.45 * sizes[1]  # rows of eight numbers have a scale of four bytes each
    assert json.loads((tmp_path / "small" / LAYOUT).read_text()) == json.loads(
        (tmp_path / "exact" / LAYOUT).read_text()
    )
    again = NetworkCandidate.load(tmp_path / "small")
    matrix = sample(4).matrix
    np.testing.assert_array_equal(again.predict(matrix), small.predict(matrix))
    assert np.abs(again.predict(matrix) - exact.predict(matrix)).max() <= 0.03


def one_scale_for_all(weights, compress=compress):
    """A quantisation that forgets that rows differ: all but the widest are rounded to nothing or next to it."""
    tensors = compress(weights)
    for name in [name for name in tensors if name.endswith(".scale")]:
        widest = tensors[name].max() * 40
        tensors[name.removesuffix(".scale")] = (weights[name.removesuffix(".scale")] / widest).round().to(torch.int8)
        tensors[name] = torch.full_like(tensors[name], float(widest))
    return tensors


def wrong_sign(weights, compress=compress):
    return {name: -tensor if tensor.dtype == torch.int8 else tensor for name, tensor in compress(weights).items()}


@pytest.mark.fault
@pytest.mark.parametrize("broken", [one_scale_for_all, wrong_sign])
def test_a_broken_quantisation_is_refused_with_its_figures(broken, monkeypatch):
    fitted(int8=1)  # control: ours passes
    monkeypatch.setattr(compression, "compress", broken)
    with pytest.raises(
        TrainingError, match=r"int8 weights is refused.*max_difference 0\.\d+ \(limit 0\.02\).*Set int8 to 0"
    ):
        fitted(int8=1)


@pytest.mark.fault
@pytest.mark.parametrize("name", ["max_difference", "average_precision_loss", "log_loss_rise"])
def test_each_figure_can_refuse_alone(name):
    limits = Parity(0.02, 0.005, 0.002)
    Parity(0.02, 0.005, 0.002).check(limits)
    Parity(0.0, -0.1, -0.1).check(limits)  # a gain is none to refuse
    with pytest.raises(TrainingError, match=rf": {name} 0\.03 \(limit 0\.\d+\)\. Set"):
        Parity(**{**vars(limits), name: 0.03}).check(limits)
    with pytest.raises(TrainingError, match=rf"{name} nan"):
        Parity(**{**vars(limits), name: float("nan")}).check(limits)


def test_figures_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score, log_loss

    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.3).astype(np.int8)
    exact = np.clip(0.3 * rng.random(300) + 0.4 * labels, 0.01, 0.99)
    other = np.clip(exact + rng.normal(0, 0.1, 300), 0.01, 0.99)
    found = Parity.of(exact, other, labels)
    assert found.max_difference == np.abs(exact - other).max()
    scores = [average_precision_score(labels, one) for one in (exact, other)]
    assert found.average_precision_loss == pytest.approx(1 - scores[1] / scores[0])
    losses = [log_loss(labels, one) for one in (exact, other)]
    assert found.log_loss_rise == pytest.approx(losses[1] / losses[0] - 1)


def test_where_nothing_is_compressed_no_parameter_says_so():
    """Bundles from before there was compression keep their digest."""
    params = stated(resolve("network", SMALL, NetworkCandidate.ranges), NetworkCandidate.ranges)
    assert [name for name in params if "int8" in name] == []
    assert stated(resolve("network", {"int8": 1}, NetworkCandidate.ranges), NetworkCandidate.ranges)["int8"] == 1


def test_a_twin_on_few_rows_is_not_compressed():
    """The probe's twin learns from a sample: its parity says nothing of the artefact's."""
    given = stated(
        resolve("network", SMALL | {"int8": 1, "text_frozen": 1}, NetworkCandidate.ranges), NetworkCandidate.ranges
    )
    twin = twin_params("network", given)
    assert (twin["int8"], twin["text_frozen"], twin["width"]) == (0, 0, 16)
    assert set(twin) == set(NetworkCandidate.ranges)


@pytest.mark.parametrize("params", [{}, {"int8": 1}])
def test_who_may_read_one_file_may_read_all(params, tmp_path):
    """Serving is another user than training: safetensors' own writer would shut it out."""
    candidate, _ = fitted(**params)
    candidate.save(tmp_path)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1
