"""A network's scores on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from evergreen.models.candidate import Matrix
from evergreen.models.network.graph import Network
from evergreen.models.network.layout import check_columns

BLOCK_ROWS = 64
"""Rows that are scored at once, the last ones filled up: matrix products of other shapes may round a row otherwise."""


def scores(network: Network, matrix: Matrix) -> npt.NDArray[np.float64]:
    """Probabilities, float64[rows]. The same bytes for a row whether it comes alone or among a million.

    Raises:
        ValueError: the matrix has another number of columns than the network reads.
    """
    check_columns(network.layout, matrix)
    found = np.empty(len(matrix), np.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # blocks are small
    try:
        with torch.inference_mode():
            for start in range(0, len(matrix), BLOCK_ROWS):
                rows = matrix[start : start + BLOCK_ROWS]
                block = np.zeros((BLOCK_ROWS, matrix.shape[1]), np.float32)
                block[: len(rows)] = rows
                logits = network(torch.from_numpy(block)).numpy()[: len(rows)]
                found[start : start + BLOCK_ROWS] = logits
    finally:
        torch.set_num_threads(threads)
    return np.exp(-np.logaddexp(0.0, -found))
