from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from evergreen.features.registry import SEQUENCES  # noqa: E402
from evergreen.models.network.attribution import contributions, integrated_gradients, owning_columns  # noqa: E402
from evergreen.models.network.graph import Network  # noqa: E402
from evergreen.models.network.layout import Layout  # noqa: E402

NAMES = (
    "a",
    "country",
    "b",
    "description 0",
    "description 1",
    *(value for step in SEQUENCES["pair"] for value in step),
)


@pytest.fixture
def matrix() -> np.ndarray:
    rng = np.random.default_rng(1)
    made = rng.normal(size=(40, len(NAMES))).astype(np.float32)
    made[:, 1] = rng.integers(-1, 3, 40)
    made[:, 3:5] = rng.integers(-1, 50, (40, 2))
    made[:, 5:] = np.abs(made[:, 5:])
    return made


@pytest.fixture
def network(matrix: np.ndarray) -> Network:
    torch.manual_seed(3)
    return Network(Layout.of(NAMES, matrix, embedding=4, width=16, depth=2, dropout=0.1)).eval()


def test_contributions_add_up_to_the_networks_log_odds(network: Network, matrix: np.ndarray) -> None:
    found = contributions(network, matrix, matrix[:10])
    with torch.no_grad():
        expected = network(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found.margins, expected, atol=1e-4)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-expected.astype(np.float64))), atol=1e-4)


def test_what_the_network_does_not_read_adds_nothing(network: Network, matrix: np.ndarray) -> None:
    with torch.no_grad():
        network.head.first.weight[:, 0] = 0.0
    found = contributions(network, matrix, matrix)
    assert not found.values[:, 0].any()
    assert found.values[:, 1].any()


def test_a_vector_counts_for_the_column_that_it_was_made_from(network: Network) -> None:
    assert owning_columns(network.layout).tolist() == [0, 2, *[1] * 4, *[3] * 4, *[5] * 4]


def test_gradients_of_a_square_are_exact() -> None:
    inputs, baseline = torch.tensor([[1.0, 2.0], [0.0, -3.0]]), torch.tensor([0.5, 0.0])
    found = integrated_gradients(lambda x: x[:, 0] ** 2 * 3 + x[:, 1], inputs, baseline)
    np.testing.assert_allclose(found.numpy(), [[2.25, 2.0], [-0.75, -3.0]], atol=1e-6)


def test_the_path_goes_through_both_sides_of_a_product() -> None:
    found = integrated_gradients(lambda x: x[:, 0] * x[:, 1], torch.tensor([[2.0, 4.0]]), torch.zeros(2))
    np.testing.assert_allclose(found.numpy(), [[4.0, 4.0]], atol=1e-6)


def test_other_columns_are_refused(network: Network, matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the network reads 21 columns"):
        contributions(network, matrix[:, :5], matrix)
