"""Container entry point of training: one spec file in, one bundle out, one JSON line last.

Under torchrun all processes train together; the first writes the bundle and prints the line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from evergreen.jobs.entry import run_job
from evergreen.logs import configure_logging
from evergreen.settings.platform import LoggingSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.train --spec spec.json --out DIR [--result FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.train", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="training spec, JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; replaced if it is there")
    parser.add_argument("--result", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)
    rank = os.environ.get("RANK", "0")  # set by torchrun
    leads = rank == "0"
    apart = given.out.with_name(f".{given.out.name}.{rank}")  # what the other processes write is thrown away
    work = given.out.with_name(f".{given.out.name}.work")  # outlives a kill: the same command then goes on from there

    def job() -> dict[str, object]:
        from evergreen.training.spec import read_spec

        spec = read_spec(given.spec)
        # Read by OpenMP and BLAS when they are loaded, which is with the trainer.
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(spec.threads)
        from evergreen.training.provenance import code_digest
        from evergreen.training.trainer import train

        result = train(spec, given.out if leads else apart, work)
        shutil.rmtree(work if leads else apart, ignore_errors=True)
        return {**result, "code_digest": code_digest()}  # an old image would give an old model

    if leads:
        return run_job(job, given.result)
    with contextlib.redirect_stdout(sys.stderr):
        return run_job(job)


if __name__ == "__main__":
    configure_logging(LoggingSettings(), stage="train")
    sys.exit(main())
