"""Weights as whole numbers of eight bits, and how much a network's scores differ by it.

The weights alone are made smaller: a row's activations would need a scale that the rows beside it have a say in, and a
pair must have the same score in a request and in a batch. The network still computes in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from evergreen.errors import TrainingError
from evergreen.models.candidate import Labels
from evergreen.models.network.checkpoint import Tensors

SCALE = ".scale"
LARGEST = 127
EDGE = 1e-12  # of a probability, so that a log loss is finite


def compress(weights: Mapping[str, torch.Tensor]) -> Tensors:
    """Each matrix as int8 with a float32 scale a row beside it; vectors as they are.

    Rounded to the nearest of 255 values symmetric around 0 (Jacob et al. 2018, "Quantization and training of neural
    networks for efficient integer-arithmetic-only inference", section 3, with zero as the zero point).

    Args:
        weights: name -> float32 tensor.
    """
    found: Tensors = {}
    for name, tensor in weights.items():
        if tensor.dim() != 2:
            found[name] = tensor
            continue
        scale = tensor.abs().amax(1) / LARGEST
        steps = tensor / torch.where(scale > 0, scale, 1.0)[:, None]
        found[name] = steps.round().clamp(-LARGEST, LARGEST).to(torch.int8)
        found[name + SCALE] = scale
    return found


def expand(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The float32 weights of what `compress` gave; weights that were never compressed are given back as they are.

    Raises:
        ValueError: a matrix of whole numbers has no scale for each of its rows.
    """
    found: Tensors = {}
    scales = {name + SCALE for name, tensor in tensors.items() if tensor.dtype == torch.int8}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"tensor {name} is of whole numbers and has no scale for each of its rows")
            found[name] = tensor.float() * scale[:, None]
        elif name not in scales:
            found[name] = tensor
    return found


@dataclass(frozen=True)
class Parity:
    """What compression did to the scores of the validation rows; losses are negative where it helped."""

    max_difference: float  # of a probability, before calibration
    average_precision_loss: float  # share of the average precision
    log_loss_rise: float  # share of the log loss

    @classmethod
    def of(cls, exact: npt.NDArray[np.float64], compressed: npt.NDArray[np.float64], labels: Labels) -> Self:
        """Compares the scores of the network as it was trained with those of the compressed one.

        Args:
            exact: float64[rows], probabilities.
            compressed: float64[rows], of the same rows.
            labels: int8[rows].
        """
        from sklearn.metrics import average_precision_score

        before, after = (float(average_precision_score(labels, scores)) for scores in (exact, compressed))
        loss, raised = (_log_loss(scores, labels) for scores in (exact, compressed))
        return cls(float(np.abs(exact - compressed).max()), (before - after) / before, (raised - loss) / loss)

    def check(self, limits: Parity) -> None:
        """Raises TrainingError naming each figure that is above its limit, or is no number."""
        seen, allowed = asdict(self), asdict(limits)
        beyond = [
            f"{name} {value:.3g} (limit {allowed[name]:g})"
            for name, value in seen.items()
            if not value <= allowed[name]
        ]
        if beyond:
            raise TrainingError(
                f"the network with int8 weights is refused, it scores the validation rows otherwise than with those it "
                f"was trained to: {', '.join(beyond)}. Set int8 to 0, or raise the limit of that name (int8_...)"
            )


def _log_loss(scores: npt.NDArray[np.float64], labels: Labels) -> float:
    kept = np.clip(scores, EDGE, 1 - EDGE)
    return float(-np.where(labels == 1, np.log(kept), np.log1p(-kept)).mean())
