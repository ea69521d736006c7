"""Scores every pair of a day with one bundle and publishes the ranked predictions, to a file as well on request."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evergreen.jobs.entry import day_argument, run_job
from evergreen.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.score_batch --as-of D --bundle DIR --model-version V [--out FILE] [--result FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.score_batch", description=__doc__)
    parser.add_argument("--as-of", type=day_argument, required=True, help="score as of this day, YYYY-MM-DD")
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--digest", default="", help="digest that the bundle must have")
    parser.add_argument("--model-version", required=True, help="written into the column model_version")
    parser.add_argument("--out", type=Path, help="also write the predictions to this Parquet file")
    parser.add_argument("--run-id", default="", help="noted with the commit")
    parser.add_argument("--result", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, object]:
        from evergreen.lake import Lake
        from evergreen.models.bundle import load_bundle
        from evergreen.models.scoring import publish_predictions, read_predictions, write_predictions

        settings = load_settings()
        bundle = load_bundle(given.bundle, given.digest)
        published = publish_predictions(
            settings, given.as_of, bundle, model_version=given.model_version, run_id=given.run_id
        )
        if given.out is not None:
            write_predictions(read_predictions(Lake(settings.lake_path), given.as_of), given.out)
            published["out"] = str(given.out)
        return published

    return run_job(job, given.result)


if __name__ == "__main__":
    sys.exit(main())
