"""Measures training on made-up rows: the network against a DataLoader twin, XGBoost against its own CPU default."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from evergreen.errors import TrainingError
from evergreen.jobs.entry import run_job
from evergreen.models.candidate import Sample, candidate_class
from evergreen.models.params import resolve

if TYPE_CHECKING:
    import torch

    from evergreen.models.network.layout import Layout
    from evergreen.models.network.loop import Recipe

CATEGORIES = ("country", "preferred_category", "user_segment", "purchase_frequency_tier", "category", "price_tier")
SEED = 28
REPEATS = 3
COPY_BYTES = 2**30

Seconds = tuple[float, float]
"""Of wall clock and of CPU."""


def measure(rows: int, columns: int, batch_rows: int, rounds: int) -> dict[str, Any]:
    """Rows a second of each way, on the CPU and, where there is one, on the GPU.

    Args:
        rows: rows of the table; each way takes all of them once an epoch or round.
        columns: columns of the table, six of which are codes of categories.
        batch_rows: rows of a step of the network.
        rounds: rounds of XGBoost.

    Raises:
        TrainingError: torch is not installed.
    """
    if find_spec("torch") is None:
        raise TrainingError("bench training needs torch, which this environment lacks: set EVERGREEN_TORCH=cpu or cuda")
    import torch

    sample = made_up(rows, columns)
    found: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "rows": rows,
        "columns": columns,
        "batch_rows": batch_rows,
        "cpu": {
            "network": measure_network(sample, batch_rows, torch.device("cpu")),
            "xgboost": measure_xgboost(sample, rounds, "cpu"),
        },
    }
    if not torch.cuda.is_available():
        return found | {"gpu": "not measured: this machine has no GPU that torch can use"}
    device = torch.device("cuda", 0)
    network: dict[str, Any] = {**measure_network(sample, batch_rows, device)}
    bandwidth = copy_bandwidth(device)
    network |= {
        "device": torch.cuda.get_device_name(device),
        "copy_bandwidth_bytes_per_second": round(bandwidth),
        # A row is read from the table and written to its batch: what any loop has to move, without the activations.
        "bandwidth_share": round(network["ours_rows_per_second"] * 2 * 4 * columns / bandwidth, 4),
    }
    return found | {"gpu": {"network": network, "xgboost": measure_xgboost(sample, rounds, "cuda")}}


def measure_network(sample: Sample, batch_rows: int, device: torch.device) -> dict[str, float]:
    """An epoch of our loop and one of the twin: same network, optimizer and batch; on a CPU one thread each."""
    from evergreen.models.network.layout import Layout
    from evergreen.models.network.loop import Recipe
    from evergreen.models.network.team import reproducible

    layout = Layout.of(sample.names, sample.matrix, embedding=8, width=128, depth=2, dropout=0.1)
    recipe = Recipe(1, 1, batch_rows, 1e-3, 0.05, 0.01, 1.0, SEED, 60.0)
    ways: dict[str, Callable[[Sample, Layout, Recipe, torch.device], Seconds]] = {
        "ours": our_epoch,
        "dataloader_twin": twin_epoch,
    }
    seconds: dict[str, list[Seconds]] = {name: [] for name in ways}
    with reproducible():
        for repeat in range(REPEATS + 1):
            for name, way in ways.items():
                taken = way(sample, layout, recipe, device)
                if repeat:  # the first one warms up
                    seconds[name].append(taken)
    return compared(seconds, len(sample.labels) // batch_rows * batch_rows, "dataloader_twin")


def our_epoch(sample: Sample, layout: Layout, recipe: Recipe, device: torch.device) -> Seconds:
    """Seconds of an epoch in our loop; the table is brought to the device before."""
    import torch

    from evergreen.models.network.graph import Network
    from evergreen.models.network.loop import train
    from evergreen.models.network.rows import Rows
    from evergreen.models.network.team import Team

    torch.manual_seed(SEED)
    network = Network(layout).to(device)
    table = Rows.of(sample.matrix, sample.labels, device)
    few = Rows.of(sample.matrix[: recipe.batch_rows], sample.labels[: recipe.batch_rows], device)
    return _timed(lambda: train(network, table, few, recipe, Team(0, 1, device)), device)


def twin_epoch(sample: Sample, layout: Layout, recipe: Recipe, device: torch.device) -> Seconds:
    """Seconds of an epoch as the tutorials write it: a shuffling DataLoader over a TensorDataset."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from evergreen.models.network.graph import Network

    torch.manual_seed(SEED)
    network = Network(layout).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    labels = torch.from_numpy(sample.labels.astype(np.float32))
    dataset = TensorDataset(torch.from_numpy(sample.matrix), labels)
    loader = DataLoader(dataset, recipe.batch_rows, shuffle=True, drop_last=True, pin_memory=device.type == "cuda")

    def epoch() -> None:
        network.train()
        for inputs, wanted in loader:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = network(inputs.to(device, non_blocking=True))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits.float(), wanted.to(device, non_blocking=True)
            )
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimizer.step()

    return _timed(epoch, device)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that the device's memory reads and writes in a plain copy."""
    import torch

    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = [_timed(lambda: target.copy_(source), device)[0] for _ in range(REPEATS + 2)]
    return 2 * COPY_BYTES / min(seconds)


def measure_xgboost(sample: Sample, rounds: int, device: str) -> dict[str, float]:
    """The candidate `xgboost` (on a CPU) or the default on a GPU, against XGBoost's default on the CPU.

    Rows a second are rows of the table times rounds by seconds, whatever share of them a way draws.
    """
    import xgboost

    threads = len(os.sched_getaffinity(0))
    kind = candidate_class("xgboost")
    params = resolve("xgboost", {"bags": 1, "rounds": rounds, "early_stopping_rounds": rounds}, kind.ranges)
    few = Sample(sample.matrix[:1_000], sample.labels[:1_000], sample.names)

    def default(place: str) -> None:
        data = xgboost.DMatrix(sample.matrix, sample.labels, nthread=threads)
        xgboost.train({"objective": "binary:logistic", "nthread": threads, "device": place}, data, rounds)

    def ours() -> None:
        if device == "cpu":
            kind().fit(sample, few, params, seed=SEED, threads=threads)
        else:
            default(device)

    seconds: dict[str, list[Seconds]] = {"ours": [], "cpu_default": []}
    for _ in range(REPEATS):
        seconds["ours"].append(_timed(ours))
        seconds["cpu_default"].append(_timed(lambda: default("cpu")))
    return {"rounds": rounds, **compared(seconds, len(sample.labels) * rounds, "cpu_default")}


def compared(seconds: dict[str, list[Seconds]], rows: int, peer: str) -> dict[str, float]:
    """Rows by seconds of wall clock and of CPU, and how many times those of the peer ours are, by medians.

    CPU seconds tell more where other work shares the machine; on a GPU they are those of the host alone.
    """
    found: dict[str, float] = {}
    for place, unit in enumerate(("second", "cpu_second")):
        taken = {name: median(one[place] for one in each) for name, each in seconds.items()}
        found |= {f"{name}_rows_per_{unit}": round(rows / value) for name, value in taken.items()}
        found[f"ours_to_{peer}_by_{unit}"] = round(taken[peer] / taken["ours"], 2)
    return found


def made_up(rows: int, columns: int) -> Sample:
    """Rows as the preprocessing gives them: numbers around 0, six columns of codes, one in thirty bought again."""
    rng = np.random.default_rng(SEED)
    matrix = rng.standard_normal((rows, columns), np.float32)
    codes = len(CATEGORIES)
    matrix[:, :codes] = rng.integers(-1, 20, (rows, codes))
    labels = (rng.random(rows) < 1 / (1 + np.exp(4 - matrix[:, codes]))).astype(np.int8)
    names = (*CATEGORIES, *(f"number {column}" for column in range(columns - codes)))
    return Sample(matrix, labels, names)


def _timed(work: Callable[[], object], device: torch.device | None = None) -> Seconds:
    """Seconds of wall clock and of CPU; on a GPU until it has done all that it was given."""
    import torch

    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
    wall, cpu = perf_counter(), process_time()
    work()
    if on_gpu:
        torch.cuda.synchronize(device)
    return perf_counter() - wall, process_time() - cpu


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_training [--rows N] [--columns N] [--batch-rows N] [--rounds N] [--out FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_training", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the table")
    parser.add_argument("--columns", type=int, default=180, help="columns of the table")
    parser.add_argument("--batch-rows", type=int, default=4_096, help="rows of a step of the network")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of XGBoost")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, Any]:
        options = (
            f"--rows {given.rows} --columns {given.columns} --batch-rows {given.batch_rows} --rounds {given.rounds}"
        )
        command = f"python -m evergreen.jobs.bench_training {options}"
        return {"command": command, **measure(given.rows, given.columns, given.batch_rows, given.rounds)}

    return run_job(job, given.out)


if __name__ == "__main__":
    sys.exit(main())
