"""The training loop: the same for a CPU, a GPU and many processes, and the same after a kill as without one.

Nothing random is carried from one step to the next: the order of an epoch is a function of (seed, epoch), what dropout
draws one of (seed, step, rank), the learning rate one of the step. A checkpoint thus holds weights, the optimizer's
moments and a few numbers, and a training that goes on from it does what it would have done.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from evergreen.errors import TrainingError
from evergreen.models.network.checkpoint import Checkpoints, Tensors
from evergreen.models.network.rows import Rows
from evergreen.models.network.team import Team

LEAST_ROWS = 8  # a process's batch is not made smaller than this when memory is short
PROGRESS_SECONDS = 10.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    epochs: int
    patience: int  # epochs without a lower validation loss after which training ends
    batch_rows: int  # of all processes together, a step of the optimizer
    learning_rate: float  # at its highest, after the warm-up
    warmup_share: float  # of all steps
    weight_decay: float
    clip_norm: float
    seed: int
    checkpoint_seconds: float
    compiled: bool = False


@dataclass
class Progress:
    """Where a training stands: what a checkpoint says beside its tensors."""

    epoch: int = 0
    step: int = 0  # of the epoch
    micro_rows: int = 0  # rows that a process takes through the network at once
    losses: list[float] = field(default_factory=list)  # validation loss of each epoch

    @property
    def best_loss(self) -> float:
        """The lowest validation loss, infinite before there is one."""
        return min(self.losses, default=math.inf)

    @property
    def best_epoch(self) -> int:
        """The first epoch with it, -1 before there is one."""
        return self.losses.index(self.best_loss) if self.losses else -1


def train(
    model: nn.Module, rows: Rows, validation: Rows, recipe: Recipe, team: Team, checkpoints: Checkpoints | None = None
) -> Progress:
    """Trains a model in place and leaves it with the weights of its best epoch on `validation`.

    Args:
        model: gives log-odds for inputs; on the team's device.
        rows: what is learnt from; the same in every process.
        validation: other customers, by which training stops.
        recipe: how.
        team: the processes that train together.
        checkpoints: where a killed training goes on; None keeps none.

    Raises:
        TrainingError: not even `LEAST_ROWS` rows fit the memory, the loss is no number, or a checkpoint is of another
            training.
    """
    return _Training(model, rows, validation, recipe, team, checkpoints).run()


class _Training:
    def __init__(
        self,
        model: nn.Module,
        rows: Rows,
        validation: Rows,
        recipe: Recipe,
        team: Team,
        checkpoints: Checkpoints | None,
    ) -> None:
        self.model, self.rows, self.validation = model, rows, validation
        self.recipe, self.team, self.checkpoints = recipe, team, checkpoints
        self.batch_rows = batch_rows(recipe.batch_rows, len(rows), team.size)
        self.local_rows = self.batch_rows // team.size
        self.steps = len(rows) // self.batch_rows
        self.optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay)
        self.best: Tensors = {}
        self.progress = Progress()
        self.saved_at = self.told_at = perf_counter()
        self.told_rows = 0

    def run(self) -> Progress:
        found = self.checkpoints.load() if self.checkpoints else None
        self.team.wait()  # nobody writes a newer one while another still reads
        if found:
            self._restore(*found)
        self._make_room()
        # Compiled or wrapped, the parameters are those of `model`.
        self.network: Any = torch.compile(self.model, dynamic=False) if self.recipe.compiled else self.model
        if self.team.size > 1:
            devices = [self.team.device] if self.team.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.network, device_ids=devices)
        while self.progress.epoch < self.recipe.epochs and not self._stopped():
            self._epoch()
        self.model.load_state_dict(self.best)
        return self.progress

    def _stopped(self) -> bool:
        return self.progress.epoch - 1 - self.progress.best_epoch >= self.recipe.patience and self.progress.epoch > 0

    def _epoch(self) -> None:
        order = self.rows.order(seed_of(self.recipe.seed, "order", self.progress.epoch))
        self.network.train()
        while self.progress.step < self.steps:
            start = self.progress.step * self.batch_rows + self.team.rank * self.local_rows
            self._step(order[start : start + self.local_rows])
            self.progress.step += 1
            self._tell()
            self._checkpoint()
        self._validate()

    def _step(self, indexes: torch.Tensor) -> None:
        done = self.progress.epoch * self.steps + self.progress.step
        torch.manual_seed(seed_of(self.recipe.seed, "step", done, self.team.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, done, self.steps * self.recipe.epochs)
        self.optimizer.zero_grad(set_to_none=True)
        self._gradients(self.network, indexes, self.progress.micro_rows)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()

    def _gradients(self, network: Any, indexes: torch.Tensor, micro_rows: int) -> None:
        """Adds the gradient of the mean loss of some rows, a few at a time; processes agree with the last of them."""
        parts = torch.split(indexes, micro_rows)
        for number, part in enumerate(parts):
            apart = self.team.size > 1 and number < len(parts) - 1
            with network.no_sync() if apart and hasattr(network, "no_sync") else nullcontext():
                inputs, labels, weights = self.rows.take(part)
                loss: torch.Tensor = self._loss(network, inputs, labels, weights) / len(indexes)
                torch.autograd.backward(loss)

    def _loss(self, network: Any, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sum of the weighted log losses."""
        with torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.team.device.type == "cuda"):
            logits = network(inputs)
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), labels, weights, reduction="sum")

    def _validate(self) -> None:
        """Ends an epoch: the loss of the validation rows, of which each process takes its share."""
        self.network.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.team.device)
        with torch.no_grad():
            for indexes in self._shares(len(self.validation)):
                inputs, labels, weights = self.validation.take(indexes.to(self.validation.inputs.device))
                total[0] += self._loss(self.model, inputs, labels, weights).double()
                total[1] += weights.sum().double()
        losses, weight = self.team.sum(total).tolist()
        loss = losses / weight
        if not math.isfinite(loss):
            raise TrainingError(
                f"the network's validation loss is {loss} after epoch {self.progress.epoch + 1}, must be finite: "
                f"lower learning_rate ({self.recipe.learning_rate:g}) or clip_norm ({self.recipe.clip_norm:g})"
            )
        better = loss < self.progress.best_loss
        self.progress.losses.append(loss)
        if better:
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        log.info("epoch %d of at most %d: validation loss %.5f", self.progress.epoch + 1, self.recipe.epochs, loss)
        self.progress.epoch += 1
        self.progress.step = 0
        self.told_at, self.told_rows = perf_counter(), 0

    def _shares(self, count: int) -> Iterator[torch.Tensor]:
        size = self.progress.micro_rows
        yield from torch.split(torch.arange(count), size)[self.team.rank :: self.team.size]

    def _make_room(self) -> None:
        """Finds how many rows go through the network at once: all of a process's batch, or a half, a quarter and so on.

        The batch of a step stays what it is: its gradient is then added up from smaller parts.
        """
        micro = self.progress.micro_rows or self.local_rows
        while not self._fits(micro):
            if micro % 2 or micro // 2 < LEAST_ROWS:
                raise TrainingError(
                    f"out of memory with {micro} rows at once, fewer than {LEAST_ROWS} are not tried: make width or "
                    f"depth smaller, or give the trainer more memory"
                )
            log.warning("out of memory with %d rows at once: trying %d, added up to the same batch", micro, micro // 2)
            micro //= 2
        self.progress.micro_rows = self.team.least(micro)
        self.optimizer.zero_grad(set_to_none=True)

    def _fits(self, micro_rows: int) -> bool:
        """Whether a step's forward and backward pass fit the memory. Shapes are the same in every step."""
        try:
            probe = torch.arange(micro_rows, device=self.rows.inputs.device)
            self._gradients(self.model.train(), probe, micro_rows)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self.optimizer.zero_grad(set_to_none=True)
            if self.team.device.type == "cuda":
                torch.cuda.empty_cache()
            return False
        return True

    def _tell(self) -> None:
        self.told_rows += self.batch_rows
        seconds = perf_counter() - self.told_at
        if seconds < PROGRESS_SECONDS or self.team.rank:
            return
        where = f"epoch {self.progress.epoch + 1} of at most {self.recipe.epochs}, {self.progress.step}/{self.steps}"
        log.info("%s steps, %s rows/s", where, f"{self.told_rows / seconds:,.0f}")
        self.told_at, self.told_rows = perf_counter(), 0

    def _checkpoint(self) -> None:
        """Writes one where it is time to; the first process does, and its clock decides."""
        if self.checkpoints is None or self.team.rank:
            return
        if perf_counter() - self.saved_at < self.recipe.checkpoint_seconds:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in moments.items()}
        self.checkpoints.save(tensors, vars(self.progress))
        self.saved_at = perf_counter()

    def _restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        parts: dict[str, Tensors] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor.to(self.team.device)
        self.model.load_state_dict(parts["model"])
        self.best = parts["best"]
        moments: dict[int, Tensors] = {}
        for name, tensor in parts["optimizer"].items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.progress = Progress(**state)
        log.info("goes on from a checkpoint: epoch %d, step %d", self.progress.epoch + 1, self.progress.step)


def batch_rows(wanted: int, rows: int, processes: int) -> int:
    """Rows of a step: those wanted, or the largest power of two that the table has; the same share in each process.

    Raises:
        TrainingError: a process would get no row, or the batch cannot be shared out evenly.
    """
    size = wanted if rows >= wanted else 2 ** int(math.log2(max(rows, 1)))
    if size % processes or rows < size:
        raise TrainingError(f"a batch of {size} rows cannot be shared by {processes} processes: set batch_rows")
    return size


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine to zero (Loshchilov & Hutter 2017, SGDR, section 3, without restarts)."""
    warmup = max(1, round(recipe.warmup_share * steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    return recipe.learning_rate * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def seed_of(*parts: object) -> int:
    """A seed from what it is for: 63 bits of SHA-256."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: torch tells it of a CPU in words alone."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)
