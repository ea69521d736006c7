"""The limited process of `evergreen.evaluation.infra`: loads a bundle as scoring does, answers, measures itself."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

SINGLE_ROWS = 200
BATCH_ROWS, BATCHES = 1000, 10
KILOBYTE = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`


def main(arguments: list[str]) -> int:
    """`python -m evergreen.evaluation.infra_child MEMORY_BYTES SECONDS BUNDLE DIGEST ROWS.parquet ANSWER.json`."""
    memory, seconds = int(arguments[0]), int(arguments[1])
    # RLIMIT_DATA counts what the process writes to; RLIMIT_AS would also count every library that is mapped.
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))

    import numpy as np
    import pandas as pd

    from evergreen.models.bundle import load_bundle

    folder, digest, rows, answer = arguments[2:]
    bundle = load_bundle(Path(folder), digest)
    frame = pd.read_parquet(rows)
    probabilities = bundle.predict(frame)
    loaded = process_time()
    document = {
        "probabilities": probabilities.tolist(),
        "load_seconds": loaded,
        "row_ms": _mean_ms(bundle.predict, [frame.iloc[[row % len(frame)]] for row in range(SINGLE_ROWS)]),
        "batch_ms": _mean_ms(bundle.predict, [frame.iloc[np.arange(BATCH_ROWS) % len(frame)]] * BATCHES),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE,
    }
    Path(answer).write_text(json.dumps(document))
    return 0


def _mean_ms(predict: Callable[[Any], Any], parts: Sequence[Any]) -> float:
    """CPU time of a call. Over all calls: the clock of CPU time is too coarse for one."""
    started = process_time()
    for part in parts:
        predict(part)
    return (process_time() - started) * 1000 / len(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
