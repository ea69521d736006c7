"""What each column adds to a network's log-odds: integrated gradients behind the encoders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from evergreen.models.candidate import Matrix
from evergreen.models.contributions import Contributions
from evergreen.models.network.graph import Network
from evergreen.models.network.layout import Layout, check_columns

NODES = 32  # of the path; more change the sum by less than the weights' own rounding
BLOCK_ROWS = 1_024
METHOD = "integrated gradients"


def contributions(network: Network, matrix: Matrix, background: Matrix) -> Contributions:
    """Integrated gradients from the background's mean encoding to the row's, on the CPU.

    The path runs behind the encoders, where a category, a text and a sequence are vectors and a mean of them is one,
    too; what a vector adds counts for the column that it was made from. Of a text's and of a sequence's columns that is
    the first: they speak together.

    Args:
        network: in evaluation mode.
        matrix: preprocessed rows, float32[rows, columns].
        background: preprocessed rows that stand for "nothing is known".

    Raises:
        ValueError: the matrix has another number of columns than the network reads.
    """
    check_columns(network.layout, matrix)
    owners = owning_columns(network.layout)
    values = np.zeros((len(matrix), matrix.shape[1] + 1))
    baseline = torch.cat([_encoded(network, block) for block in _blocks(background)]).mean(0)
    with torch.no_grad():
        values[:, -1] = float(network.head(baseline[None, :])[0])
    for start, block in zip(range(0, len(matrix), BLOCK_ROWS), _blocks(matrix), strict=True):
        found = integrated_gradients(network.head, _encoded(network, block), baseline).numpy().astype(np.float64)
        np.add.at(values[start : start + BLOCK_ROWS].T, owners, found.T)
    return Contributions.of_models([values], METHOD)


def integrated_gradients(
    function: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, baseline: torch.Tensor, nodes: int = NODES
) -> torch.Tensor:
    """(input - baseline) x mean gradient on the straight path between them, the shape of `inputs`.

    Sundararajan, Taly & Yan 2017, "Axiomatic attribution for deep networks", section 3; the mean is taken at the nodes
    of Gauss and Legendre, since the functions are smooth. A row's sum is the function's difference between its ends.

    Args:
        function: float[rows, n] to float[rows], each row by itself.
        inputs: float[rows, n].
        baseline: float[n].
        nodes: points of the path.
    """
    places, weights = np.polynomial.legendre.leggauss(nodes)
    mean = torch.zeros_like(inputs)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        point = (baseline + float(place) * (inputs - baseline)).requires_grad_()
        mean += float(weight) * torch.autograd.grad(function(point).sum(), point)[0]
    return (inputs - baseline) * mean


def owning_columns(layout: Layout) -> npt.NDArray[np.intp]:
    """The column that each number of the encoders' output counts for."""
    vectors = [category.column for category in layout.categories]
    vectors += list(layout.text[:1])
    vectors += [steps.columns[0][0] for steps in layout.sequences]
    return np.array([*layout.numbers, *np.repeat(vectors, layout.embedding)], np.intp)


def _blocks(matrix: Matrix) -> list[torch.Tensor]:
    return [torch.from_numpy(matrix[at : at + BLOCK_ROWS].copy()) for at in range(0, len(matrix), BLOCK_ROWS)]


def _encoded(network: Network, block: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([encoder(block) for encoder in network.encoders], 1)
