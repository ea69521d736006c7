"""Searches a model's parameters on the folds of a training set."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evergreen.jobs.entry import run_job
from evergreen.settings import load_settings
from evergreen.training.search.workers import THREADS


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.search --training-set FOLDER [--digest D] --model NAME [--result FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.search", description=__doc__)
    parser.add_argument("--training-set", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--digest", default="", help="which training set it must be")
    parser.add_argument("--model", required=True, help="a file of include/evergreen/models/candidates")
    parser.add_argument("--result", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, object]:
        settings = load_settings()
        threads = max(1, settings.training.trainer_threads // settings.training.search.parallel)
        # Read by OpenMP and BLAS when they are loaded, which is with the search.
        os.environ |= dict.fromkeys(THREADS, str(threads))
        from evergreen.training.search.study import run_search

        return run_search(settings, given.training_set, given.model, digest=given.digest, say=_say)

    return run_job(job, given.result)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
