"""Stages the feature tables of a day with Spark, for checks and publication by others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evergreen.jobs.entry import day_argument, run_job
from evergreen.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.build_features --day D [--publish] [--run-id ID] [--result FILE]`.

    Runs as it is or under `spark-submit`; the session takes its options from `settings.spark` either way.
    """
    parser = argparse.ArgumentParser(prog="evergreen.jobs.build_features", description=__doc__)
    parser.add_argument("--day", type=day_argument, required=True, help="day of data, YYYY-MM-DD")
    parser.add_argument("--publish", action="store_true", help="publish without checks, for benchmarks and sandboxes")
    parser.add_argument("--run-id", default="", help="noted with the commit")
    parser.add_argument("--result", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, object]:
        from evergreen.features.build import stage_features
        from evergreen.features.session import spark_session
        from evergreen.lake import Lake
        from evergreen.lake.staged_set import publish_set

        settings = load_settings()
        lake = Lake(settings.lake_path)
        staged = stage_features(lambda: spark_session(settings.spark), settings, given.day)
        summary = staged.save(lake)
        if given.publish:
            summary["published"] = publish_set(lake, staged, run_id=given.run_id)
        return summary

    return run_job(job, given.result)


if __name__ == "__main__":
    sys.exit(main())
