"""SHAP values of many rows: the tables of `evergreen.models.tree_shap` against `shap.TreeExplainer`, one thread each.

The model is of the size of a real one: the first booster of a bundle, or one trained here with the candidate's default
parameters. Both sides explain the same preprocessed rows in a process of their own, one after the other; the tables'
making counts. `shap.TreeExplainer` hands XGBoost's models to XGBoost's own `pred_contribs`: that is what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from evergreen.errors import TrainingError
from evergreen.jobs.entry import run_job
from evergreen.settings import Settings, load_settings

ROWS = 100_000
PEER_ROWS_A_TIME = 1_000  # progress can be told, and no float64 copy of all rows is made
TOLERANCE = 1e-4
SEED = 7
OURS, PEER = "evergreen.models.tree_shap", "shap.TreeExplainer"


def bench(training_set: Path | None, bundle: Path | None, rows: int, settings: Settings) -> dict[str, Any]:
    """Times both sides and compares every value.

    Args:
        training_set: folder of the rows; None: the newest of the settings' home.
        bundle: an XGBoost bundle; None: a booster is trained on the training set's rows.
        rows: how many rows are explained; the holdout's, repeated where there are fewer.
        settings: whose home is looked into.

    Returns:
        `model` (boosters, trees, leaves, most features on a path, columns), `rows`, for each side `cpu_seconds` and
        `wall_seconds`, `faster` (ratio of CPU seconds), `largest_difference`, `equal` (within 1e-4).

    Raises:
        TrainingError: there is no training set.
    """
    folder = training_set or _newest(settings)
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as place:
        work = Path(place)
        model = _prepare(folder, bundle, rows, work)
        sides = {side: _in_a_process(side, work) for side in (OURS, PEER)}
        ours, peer = (np.load(work / f"{side}.npy", mmap_mode="r") for side in (OURS, PEER))
        blocks = range(0, rows, PEER_ROWS_A_TIME)
        largest = max(
            float(np.abs(ours[at : at + PEER_ROWS_A_TIME] - peer[at : at + PEER_ROWS_A_TIME]).max()) for at in blocks
        )
    return {
        "command": _command(rows, training_set, bundle),
        "rows": rows,
        "data": json.loads((folder / "manifest.json").read_text())["content"]["holdout"],
        "model": model,
        "sides": sides,
        "faster": round(sides[PEER]["cpu_seconds"] / sides[OURS]["cpu_seconds"], 1),
        "largest_difference": largest,
        "equal": largest <= TOLERANCE,
        "threads": 1,
        "versions": {name: version(name) for name in ("shap", "xgboost", "numpy")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _command(rows: int, training_set: Path | None, bundle: Path | None) -> str:
    """How to do it again; folders of this machine are not told."""
    places = [f"--{name} DIR" for name, given in (("training-set", training_set), ("bundle", bundle)) if given]
    return " ".join(["python -m evergreen.jobs.bench_explain", f"--rows {rows}", *places])


def explain_side(side: str, work: Path) -> dict[str, float]:
    """Explains the prepared rows by one side, keeps the values beside them, and tells how long it took."""
    import xgboost

    matrix = np.load(work / "matrix.npy")
    booster = xgboost.Booster()
    booster.load_model(work / "model.ubj")
    booster.set_param({"nthread": 1})
    if side == OURS:
        from evergreen.models.tree_shap import booster_values

        cpu, wall = process_time(), perf_counter()
        values = booster_values(booster, matrix)[:, :-1]
    else:
        import shap

        cpu, wall = process_time(), perf_counter()
        explainer = shap.TreeExplainer(booster)
        parts = range(0, len(matrix), PEER_ROWS_A_TIME)
        values = np.concatenate([explainer.shap_values(matrix[at : at + PEER_ROWS_A_TIME]) for at in parts])
    spent = {"cpu_seconds": round(process_time() - cpu, 2), "wall_seconds": round(perf_counter() - wall, 2)}
    np.save(work / f"{side}.npy", values.astype(np.float32))
    return spent


def _in_a_process(side: str, work: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "evergreen.jobs.bench_explain", "--side", side, "--work", str(work)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingError(f"{side} ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _prepare(folder: Path, bundle: Path | None, rows: int, work: Path) -> dict[str, Any]:
    """Writes the preprocessed rows and one booster, and tells the booster's size."""
    from evergreen.models.bundle import load_bundle
    from evergreen.models.candidate import candidate_class
    from evergreen.models.candidates.xgboost import Xgboost
    from evergreen.models.params import resolve
    from evergreen.models.preprocessing import Preprocessor
    from evergreen.models.tree_shap import max_path, xgboost_trees
    from evergreen.training.dataset import HOLDOUT, StoredColumns, TrainingSet

    training_set = TrainingSet.open(folder)
    holdout = StoredColumns(training_set.file(HOLDOUT))
    if bundle is not None:
        loaded = load_bundle(bundle)
        preprocessor, candidate = loaded.preprocessor, loaded.candidate
        if not isinstance(candidate, Xgboost):
            raise TrainingError(f"bundle {bundle} holds a {loaded.manifest['model']}, expected an xgboost")
    else:
        kind = candidate_class("xgboost")
        preprocessor = Preprocessor.fit(kind.plan, training_set.features, holdout)
        candidate = Xgboost()
        params = resolve("xgboost", {"bags": 1}, kind.ranges)
        _fit(candidate, training_set, preprocessor, params)
    matrix = preprocessor.transform(holdout, holdout.rows)
    np.save(work / "matrix.npy", matrix[np.arange(rows) % len(matrix)])
    booster = candidate.boosters[0]
    booster.save_model(work / "model.ubj")
    trees, _ = xgboost_trees(json.loads(bytes(booster.save_raw("json"))))
    return {
        "boosters": f"1 of {len(candidate.boosters)}",
        "trees": len(trees),
        "leaves": int(sum((tree.left == -1).sum() for tree in trees)),
        "path_features": max_path(trees),
        "columns": matrix.shape[1],
    }


def _fit(candidate: Any, training_set: Any, preprocessor: Any, params: Any) -> None:
    from evergreen.models.candidate import Sample
    from evergreen.training.dataset import INNER, TRAIN, StoredColumns
    from evergreen.training.splits import Split

    samples = []
    for stored in (
        StoredColumns(training_set.file(TRAIN)),
        StoredColumns(training_set.file(INNER), Split.EARLY_STOPPING),
    ):
        samples.append(Sample(preprocessor.transform(stored, stored.rows), stored.labels(), preprocessor.names))
    candidate.fit(*samples, params, seed=SEED, threads=max(1, os.cpu_count() or 1))


def _newest(settings: Settings) -> Path:
    found = sorted(
        (settings.home_path / "training_sets").glob("*/manifest.json"), key=lambda file: file.stat().st_mtime
    )
    if not found:
        raise TrainingError(
            f"{settings.home_path / 'training_sets'} holds no training set: run the loop once (./evergreen run), or "
            "name a folder by --training-set"
        )
    return found[-1].parent


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_explain [--training-set DIR] [--bundle DIR] [--rows N] [--out FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_explain", description=__doc__)
    parser.add_argument("--training-set", type=Path, help="folder of a training set; default: the newest of the home")
    parser.add_argument("--bundle", type=Path, help="XGBoost bundle; default: a booster is trained")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows to explain, default {ROWS}")
    parser.add_argument("--side", choices=(OURS, PEER), help="explain what --work holds, by one side only")
    parser.add_argument("--work", type=Path, help="folder of the prepared rows")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    given = parser.parse_args(arguments)
    if given.side:
        return run_job(lambda: explain_side(given.side, given.work))
    return run_job(lambda: bench(given.training_set, given.bundle, given.rows, load_settings()), given.out)


if __name__ == "__main__":
    sys.exit(main())
