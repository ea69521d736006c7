"""Builds the training set of a day, or finds the one that is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evergreen.jobs.entry import day_argument, run_job
from evergreen.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.build_training_set --day D [--run-id ID] [--result FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.build_training_set", description=__doc__)
    parser.add_argument("--day", type=day_argument, required=True, help="newest day of data, YYYY-MM-DD")
    parser.add_argument("--run-id", default="", help="noted in the manifest")
    parser.add_argument("--result", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, object]:
        from evergreen.training.dataset import build_training_set

        return build_training_set(load_settings(), given.day, run_id=given.run_id).summary()

    return run_job(job, given.result)


if __name__ == "__main__":
    sys.exit(main())
