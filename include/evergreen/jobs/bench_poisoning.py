"""Measures how much of what is planted in a real training set the detectors of poison find."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evergreen.evaluation.poisoning import day_number, judge_rows, read_rows
from evergreen.jobs.bench_verdict import training_set_on
from evergreen.jobs.entry import run_job
from evergreen.settings import load_settings

if TYPE_CHECKING:
    import pandas as pd

SEED = 5
Plant = Callable[["pd.DataFrame", np.random.Generator], "pd.DataFrame"]


def measure(on: Path, trials: int) -> dict[str, Any]:
    """Plants each kind of poison some times, and counts how often the gate would stop it."""
    settings = load_settings().evaluation.poisoning
    training_set = training_set_on(on)
    horizon = int(training_set.manifest["content"]["horizon_days"])
    rows = read_rows(training_set)
    own = rows["as_of"] != day_number(training_set.holdout)

    def judged(planted: pd.DataFrame) -> dict[str, Any]:
        return judge_rows(planted, horizon, training_set.holdout, settings)

    rng = np.random.default_rng(SEED)
    planted = []
    for kind, plants in the_plants().items():
        for amount, plant in plants.items():
            seen = [judged(plant(rows, rng)) for _ in range(trials)]
            labels = [one["labels"]["contradicted_share"] for one in seen]
            twins = [one["twins"]["share"] for one in seen]
            stopped = [
                label > settings.max_contradicted_share or twin > settings.max_twin_share
                for label, twin in zip(labels, twins, strict=True)
            ]
            planted.append(
                {
                    "kind": kind,
                    "amount": amount,
                    "trials": trials,
                    "stopped": sum(stopped) / trials,
                    "labels_contradicted": float(np.mean(labels)),
                    "twins": float(np.mean(twins)),
                }
            )
    return {
        "training_set": training_set.digest,
        "rows": int(own.sum()),
        "limits": settings.model_dump(mode="json"),
        "clean": judged(rows),
        "planted": planted,
    }


def the_plants() -> dict[str, dict[float, Plant]]:
    """What is planted: kind -> amount (a share of rows or customers) -> how."""
    return {
        "labels flipped at random": {share: _flips(share) for share in (0.0001, 0.001, 0.01, 0.05)},
        "purchases hidden: labels 1 become 0": {share: _flips(share, was=1) for share in (0.01, 0.1)},
        "purchases invented at the newest date": {share: _flips(share, was=0, newest=True) for share in (0.001, 0.01)},
        "customers copied": {share: _copies(share) for share in (0.005, 0.02, 0.1)},
        "customers copied, a fifth of their pairs left out": {share: _copies(share, kept=0.8) for share in (0.02, 0.1)},
        "customers copied, half of their pairs left out": {share: _copies(share, kept=0.5) for share in (0.02, 0.1)},
        "customers copied, all days moved by one": {share: _copies(share, moved=1) for share in (0.02, 0.1)},
    }


def _flips(share: float, was: int | None = None, *, newest: bool = False) -> Plant:
    def plant(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        as_of, labels = rows["as_of"].to_numpy(), rows["label"].to_numpy().copy()
        able = as_of != as_of.max()  # not the holdout
        if newest:
            able &= as_of == as_of[able].max()
        if was is not None:
            able &= labels == was
        chosen = np.flatnonzero(able)
        labels[rng.choice(chosen, max(1, int(share * len(chosen))), replace=False)] ^= 1
        return rows.assign(label=labels)

    return plant


def _copies(share: float, kept: float = 1.0, moved: int = 0) -> Plant:
    def plant(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        import pandas as pd

        customers = rows["customer_id"].unique()
        chosen = rng.choice(customers, max(1, int(share * len(customers))), replace=False)
        copies = rows[rows["customer_id"].isin(chosen)]
        left = copies["product_id"].to_numpy() * 7919 % 1000 < 1000 * kept  # the same products at every date
        copies = copies[left].copy()
        copies["customer_id"] += int(customers.max()) + 1
        for name in ("pair_recency_days", "pair_tenure_days"):
            copies[name] += moved
        return pd.concat([rows, copies], ignore_index=True)

    return plant


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_poisoning [--on FOLDER] [--trials N] [--out FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_poisoning", description=__doc__)
    parser.add_argument("--on", type=Path, help="a training set's folder or a home; default: the current home")
    parser.add_argument("--trials", type=int, default=10, help="how often each kind is planted")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, Any]:
        command = f"./evergreen bench poisoning -- --on TRAINING_SET --trials {given.trials}"
        return {"command": command, **measure(given.on or load_settings().home_path, given.trials)}

    return run_job(job, given.out)


if __name__ == "__main__":
    sys.exit(main())
