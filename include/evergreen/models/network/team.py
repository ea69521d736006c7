"""The processes that train one network together, as torchrun starts them, and the device of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.utils import deterministic

TIMEOUT = timedelta(minutes=10)  # a member that died is noticed after this long at the latest


@dataclass(frozen=True)
class Team:
    """This process among `size` that train one network."""

    rank: int
    size: int
    device: torch.device

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all members, the same bits in each."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def least(self, value: int) -> int:
        """The smallest of the members' values."""
        if self.size == 1:
            return value
        found = torch.tensor(value, device=self.device)
        distributed.all_reduce(found, op=distributed.ReduceOp.MIN)
        return int(found.item())

    def wait(self) -> None:
        """Returns when all members are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def team(device: str = "auto") -> Iterator[Team]:
    """Joins the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), else this one alone.

    Args:
        device: `cpu`, `cuda`, or `auto`: a GPU where there is one. Members talk by NCCL on GPUs, by gloo on CPUs.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    joined = size > 1 and not distributed.is_initialized()
    if joined:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield Team(rank, size, place)
    finally:
        if joined:
            distributed.destroy_process_group()


@contextmanager
def reproducible() -> Iterator[None]:
    """Only operations that give the same bits each time, on one CPU thread: threads would sum in another order."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it is first used
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    settings: Any = deterministic  # torch declares no type for what it lets people set
    filled = settings.fill_uninitialized_memory
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # a twelfth of a step's time; no operation here reads such memory
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)
