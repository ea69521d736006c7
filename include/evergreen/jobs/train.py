"""Container entry point of training: one spec file in, one bundle out, one JSON line last."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evergreen.jobs.entry import run_job


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.train --spec spec.json --out DIR [--result FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.train", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="training spec, JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; replaced if it is there")
    parser.add_argument("--result", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, object]:
        from evergreen.training.spec import read_spec

        spec = read_spec(given.spec)
        # Read by OpenMP and BLAS when they are loaded, which is with the trainer.
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(spec.threads)
        from evergreen.training.provenance import code_digest
        from evergreen.training.trainer import train

        return {**train(spec, given.out), "code_digest": code_digest()}  # an old image would give an old model

    return run_job(job, given.result)


if __name__ == "__main__":
    sys.exit(main())
