"""Measures how often the verdict errs: equal models promoted, better ones missed, harmed slices let through.

The gates themselves are asked, about models made from real scores (`evergreen.promotion.simulation`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.jobs.entry import run_job
from evergreen.models.calibration import sigmoid
from evergreen.promotion.gates import Policy
from evergreen.promotion.simulation import RealScores, equal_models, equal_models_month, harmed_slices, true_gain
from evergreen.settings import load_settings
from evergreen.training.dataset import HOLDOUT, MANIFEST, TRAIN, StoredColumns, TrainingSet

SEED = 4
MEMBERS = 12
NEGATIVES = 0.15  # share of the negatives that members learn from, each weighted by its inverse
MAX_BIN = 64
PARAMS = {
    "objective": "binary:logistic", "tree_method": "hist", "max_depth": 5, "learning_rate": 0.15, "max_bin": MAX_BIN,
    "subsample": 0.5, "colsample_bytree": 0.3, "min_child_weight": 50,
}  # fmt: skip
ROUNDS, WEAK_ROUNDS = 80, 15
TIE_BREAK = 0.2
WEAK_FEATURES = frozenset({"pair_purchases", "pair_recency_days", "pair_tenure_days"})


def measure(training_set: TrainingSet, pairs: int, months: int, trials: int, threads: int) -> dict[str, Any]:
    """All error rates on the scores of one training set's holdout."""
    settings = load_settings()
    started = perf_counter()
    real = real_scores(training_set, threads)
    looks = settings.promotion.looks
    policies = {
        name: Policy(settings.promotion.model_copy(update={"looks": number}), settings.evaluation, 28)
        for name, number in (("one_look", 1), (f"{looks}_looks", looks))
    }
    corrected = policies[f"{looks}_looks"]
    stages: dict[str, Callable[[], Any]] = {
        "equal_models": lambda: equal_models(real, policies, pairs, 1000, SEED),
        "equal_models_30_days": lambda: equal_models_month(real, policies, months, 600, SEED + 1),
        "true_gain": lambda: [true_gain(real, policies, gain, trials, SEED + 2) for gain in (0.0025, 0.005, 0.01)],
        "harmed_slices": lambda: harmed_slices(real, corrected, 0.05, max(1, trials // 6), SEED + 3),
    }
    found = {}
    for name, stage in stages.items():
        found[name] = stage()
        print(f"{perf_counter() - started:.0f} s: {name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    return {
        "training_set": training_set.digest,
        "holdout": str(training_set.holdout),
        "holdout_pairs": len(real.scores),
        "customers": real.customers,
        "members": MEMBERS,
        "roc_auc": _auc_of(real),
        "primary_metric": settings.promotion.primary_metric,
        "resamples": settings.evaluation.resamples,
        "looks": looks,
        **found,
        "seconds": round(perf_counter() - started),
        "threads": threads,
        "cores": len(os.sched_getaffinity(0)),
    }


def real_scores(training_set: TrainingSet, threads: int) -> RealScores:
    """Trains the members and scores the holdout with each; all are calibrated alike, by the weights of their rows."""
    import pandas as pd
    import xgboost

    from evergreen.evaluation.report import model_scores
    from evergreen.models.preprocessing import Plan, Preprocessor

    features = [(name, kind) for name, kind in training_set.features if kind in ("number", "category")]
    stored = StoredColumns(training_set.file(TRAIN))
    labels = stored.labels()
    rng = np.random.default_rng(SEED)
    rows = np.flatnonzero((labels == 1) | (rng.random(len(labels)) < NEGATIVES))
    read = stored.take(rows)
    preprocessor = Preprocessor.fit(Plan(scale=False, one_hot=False), features, read)
    data = xgboost.QuantileDMatrix(
        preprocessor.transform(read, read.rows),
        labels[rows],
        weight=np.where(labels[rows] == 1, 1.0, 1 / NEGATIVES),
        max_bin=MAX_BIN,
        nthread=threads,
    )
    frame = pd.read_parquet(training_set.file(HOLDOUT))
    matrix = preprocessor.transform(frame, len(frame))
    members = np.stack(
        [
            xgboost.train({**PARAMS, "seed": SEED + number, "nthread": threads}, data, ROUNDS).inplace_predict(matrix)
            for number in range(MEMBERS)
        ]
    )
    scores = model_scores(lambda _: members.mean(axis=0, dtype=np.float64), frame)
    weaker = _weaker_model(preprocessor.names, data, matrix, threads)
    return RealScores(scores, members, weaker, _visits_a_day(frame))


def _weaker_model(names: Sequence[str], data: Any, matrix: Any, threads: int) -> npt.NDArray[np.float64]:
    """Scores by few rounds that know a pair's days and counts, and nothing of customer, product and season."""
    import xgboost

    weights = np.array([1.0 if name in WEAK_FEATURES else 0.0 for name in names])
    if not weights.any():
        weights[:1] = 1.0
    data.set_info(feature_weights=weights)  # columns without weight are never drawn
    params = {**PARAMS, "colsample_bytree": weights.mean(), "max_depth": 3, "seed": SEED, "nthread": threads}
    found = np.asarray(xgboost.train(params, data, WEAK_ROUNDS).inplace_predict(matrix), np.float64)
    noise = np.random.default_rng(SEED).normal(0, TIE_BREAK, len(found))  # else pairs with equal counts would be ties
    return sigmoid(np.log(found / (1 - found)) + noise)


def _visits_a_day(frame: Any) -> npt.NDArray[np.float64]:
    if "customer_days_365d" not in frame:
        return np.full(len(frame), 1 / 30)
    return np.clip(np.asarray(frame["customer_days_365d"], np.float64) / 365, 1 / 365, 1.0)


def _auc_of(real: RealScores) -> dict[str, Any]:
    from evergreen.evaluation.ranking import Ranking

    def auc(probabilities: Any) -> float:
        return round(Ranking(real.scores.labels, np.asarray(probabilities, np.float64)).weigh().roc_auc(), 4)

    alone = [auc(one) for one in real.members]
    return {"member_mean": auc(real.scores.probabilities), "members": alone, "weaker": auc(real.weaker)}


def training_set_on(folder: Path) -> TrainingSet:
    """The training set in a folder, or the newest of a home.

    Raises:
        TrainingError: there is none, or it is altered.
    """
    if (folder / MANIFEST).is_file():
        return TrainingSet.open(folder)
    found = [TrainingSet.open(file.parent) for file in folder.glob(f"training_sets/*/{MANIFEST}")]
    if not found:
        raise TrainingError(f"{folder} holds no training set: run `./evergreen run` first, or name one with --on")
    return max(found, key=lambda one: one.day)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_verdict [--on FOLDER] [--pairs N] [--months N] [--trials N] [--out FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_verdict", description=__doc__)
    parser.add_argument("--on", type=Path, help="a training set's folder or a home; default: the current home")
    parser.add_argument("--pairs", type=int, default=500, help="A/A pairs at one look")
    parser.add_argument("--months", type=int, default=150, help="sequences of 30 A/A decisions")
    parser.add_argument("--trials", type=int, default=60, help="trials of a true gain; a sixth for each slice")
    parser.add_argument("--threads", type=int, default=1, help="threads of the members' training")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, Any]:
        training_set = training_set_on(given.on or load_settings().home_path)
        counts = f"--pairs {given.pairs} --months {given.months} --trials {given.trials} --threads {given.threads}"
        command = f"./evergreen bench verdict -- --on TRAINING_SET {counts}"
        return {"command": command, **measure(training_set, given.pairs, given.months, given.trials, given.threads)}

    return run_job(job, given.out)


if __name__ == "__main__":
    sys.exit(main())
