"""Is the bundle mechanically fit to serve? It is loaded and asked in the real scoring code, in a limited process.

After the InfraValidator of TensorFlow Extended: "good enough" and "servable" are two questions. The child is a fresh
interpreter: before it imports anything heavy it gives itself limits of memory and CPU time, which the kernel holds, and
nothing of the judge's own state helps it to load. (Limits that the judge sets between fork and exec are unsafe in a
process with threads.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evergreen.settings.checks import InfraSettings

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "evergreen.infra/1"
MEGABYTE = 2**20
KEPT = ("PATH", "LD_LIBRARY_PATH", "HOME")  # of the environment
ASK = "evergreen.evaluation.infra_child"


def validate(
    folder: Path, digest: str, golden: pd.DataFrame, expected: npt.NDArray[np.float64], settings: InfraSettings
) -> dict[str, Any]:
    """Loads a bundle elsewhere, asks it for the golden rows, and compares with what it answered here.

    Args:
        folder: the bundle.
        digest: that it must have.
        golden: rows with the features.
        expected: what the bundle predicts for them in this process.
        settings: limits of the process.

    Returns:
        JSON: `loaded`, `problem` (why not), `size_bytes`; where it loaded `max_difference`, `load_seconds` (imports
        and first answer included), `row_ms` (of a row that comes alone), `batch_ms` (of a thousand rows) and
        `peak_bytes` (resident). Times are CPU time of one thread: a busy machine must fail no candidate.
    """
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with TemporaryDirectory() as scratch:
        rows, answer = Path(scratch) / "golden.parquet", Path(scratch) / "answer.json"
        golden.to_parquet(rows, index=False)
        problem = _ask(folder, digest, rows, answer, settings)
        if problem:
            return {"format": FORMAT, "loaded": False, "problem": problem, "size_bytes": size}
        seen = json.loads(answer.read_text())
    probabilities = np.array(seen.pop("probabilities"), dtype=np.float64)
    difference = np.abs(probabilities - expected).max() if len(probabilities) == len(expected) else np.inf
    apart = float(difference) if np.isfinite(difference) else 1.0
    return {"format": FORMAT, "loaded": True, "problem": "", "size_bytes": size, "max_difference": apart, **seen}


def _ask(folder: Path, digest: str, rows: Path, answer: Path, settings: InfraSettings) -> str:
    """Runs the child; gives why it has no answer, or nothing."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    limits = [str(int(settings.max_memory_mb * MEGABYTE)), str(int(settings.timeout_seconds) + 1)]
    command = [sys.executable, "-m", ASK, *limits, str(folder), digest, str(rows), str(answer)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=settings.timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {settings.timeout_seconds:g} s"
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        told = said[-1].replace(str(folder), "itself") if said else "it said nothing"
        return f"it ended with code {done.returncode}: {told}"
    return ""
