"""Makes a text encoder that can be plugged into the network: of a training set, or of a bundle of before."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evergreen.errors import TrainingError
from evergreen.jobs.entry import run_job
from evergreen.models.network.encoder import LARGEST_DIMENSION


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.text_encoder (--training-set FOLDER | --bundle FOLDER) --out FOLDER`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.text_encoder", description=__doc__)
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--training-set", type=Path, help="learn from products that the same customers bought")
    origin.add_argument("--bundle", type=Path, help="take the encoder of this bundle's network")
    parser.add_argument("--dimension", type=int, default=32, help="numbers of a vector learnt from a training set")
    parser.add_argument("--seed", type=int, default=0, help="of what is learnt from a training set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the encoder; what is there is replaced")
    given = parser.parse_args(arguments)

    def job() -> dict[str, Any]:
        from evergreen.training.text_encoder import of_bundle, of_training_set

        if not 1 <= given.dimension <= LARGEST_DIMENSION:
            raise TrainingError(f"--dimension is {given.dimension}, must be 1 to {LARGEST_DIMENSION}")
        if given.bundle is not None:
            encoder = of_bundle(given.bundle)
        else:
            encoder = of_training_set(given.training_set, dimension=given.dimension, seed=given.seed)
        digest = encoder.write(given.out)
        return {"folder": str(given.out), "digest": digest, "dimension": encoder.vectors.shape[1], **encoder.source}

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
