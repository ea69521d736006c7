"""Rows by index, without a DataLoader: the whole table on the device where it fits, else gathered from the host."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from evergreen.models.candidate import Labels, Matrix

MEMORY_SHARE = 0.7  # of a GPU's free memory that a table may take; the rest is for the network's own
WINDOW_ROWS = 2**18  # rows of a file that are read, and mixed, together
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """A table of inputs, labels and weights.

    `inputs` is float32[rows, columns], `labels` and `weights` float32[rows]. They lie on the device, or, with
    `streamed`, on the host (perhaps in a memory-mapped file), from where each batch is copied.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    device: torch.device
    streamed: bool
    mapped: bool

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        labels: Labels,
        device: torch.device,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> Rows:
        """Puts a table where it fits."""
        weights = np.ones(len(labels), np.float32) if weights is None else weights
        mapped = isinstance(matrix, np.memmap)
        streamed = device.type == "cuda" and matrix.nbytes > MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
        if streamed:
            log.info("a table of %.1f GiB does not fit the GPU: batches are copied to it", matrix.nbytes / 2**30)
        place = torch.device("cpu") if streamed else device
        return cls(
            _tensor(matrix).to(place),
            torch.from_numpy(labels.astype(np.float32)).to(place),
            torch.from_numpy(weights).to(place),
            device,
            streamed,
            mapped,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indexes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, labels and weights of some rows, on the device. `indexes`: int64, where the table lies."""
        inputs, labels, weights = (part.index_select(0, indexes) for part in (self.inputs, self.labels, self.weights))
        if self.streamed:
            parts = (inputs, labels, weights)
            inputs, labels, weights = (part.pin_memory().to(self.device, non_blocking=True) for part in parts)
        return inputs, labels, weights

    def order(self, seed: int) -> torch.Tensor:
        """A random order of all rows, int64, where the table lies.

        Rows of a memory-mapped table are mixed within windows, which come in random order: pages are read once.
        """
        generator = torch.Generator().manual_seed(seed)
        if not self.mapped:
            return torch.randperm(len(self), generator=generator).to(self.inputs.device)
        starts = range(0, len(self), WINDOW_ROWS)
        parts = []
        for window in torch.randperm(len(starts), generator=generator).tolist():
            start = starts[window]
            size = min(WINDOW_ROWS, len(self) - start)
            parts.append(start + torch.randperm(size, generator=generator))
        return torch.cat(parts)


def _tensor(matrix: Matrix) -> torch.Tensor:
    """The matrix without a copy. A file that was mapped for reading stays so: nothing here writes to it."""
    if matrix.flags.writeable:
        return torch.from_numpy(matrix)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch knows no tensor that may not be written to
        return torch.from_numpy(matrix)
