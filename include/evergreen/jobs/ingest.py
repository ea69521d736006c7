"""Stages days of purchase lines: `python -m evergreen.jobs.ingest --start DAY [--end DAY] [--source FILE]`.

Nothing is published: the result names the manifest of the staged set, which is checked and published next.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evergreen.ingest.stage import stage_transactions
from evergreen.jobs.entry import day_argument, run_job
from evergreen.lake import Lake
from evergreen.lake.staging import new_attempt
from evergreen.settings import load_settings


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """The job's arguments; `end` is `start` where it is not given."""
    parser = ArgumentParser(prog="evergreen.jobs.ingest", description=__doc__)
    parser.add_argument("--start", type=day_argument, required=True, help="first day, YYYY-MM-DD")
    parser.add_argument("--end", type=day_argument, help="last day, inclusive; default: the first")
    parser.add_argument("--source", default="", help="file, landing folder or database URL; default: by the settings")
    parser.add_argument("--run-id", default="", help="recorded with rejected lines; default: a new one")
    parser.add_argument("--result", type=Path, help="also write the result to this file")
    parsed = parser.parse_args(arguments)
    parsed.end = parsed.end or parsed.start
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Stages the days and writes the staged set's summary; gives the exit code."""
    args = parse_args(arguments)

    def job() -> dict[str, Any]:
        settings = load_settings()
        run_id = args.run_id or new_attempt()
        staged = stage_transactions(settings, args.start, args.end, source=args.source, run_id=run_id)
        return staged.save(Lake(settings.lake_path))

    return run_job(job, args.result)


if __name__ == "__main__":
    sys.exit(main())
