"""CPU time of a day's feature build against a full rebuild, at several lengths of history.

For each length, on a private copy of the newest days of `transactions`: `full` builds all days but the last; `next_day`
adds the last one, with every snapshot of its grid missing, as on the day after a first load; `daily` builds that day
anew, corrected by one line, with the snapshots of its training dates there, as on any later day.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa

from evergreen.errors import LakeError
from evergreen.jobs.entry import day_argument, run_job
from evergreen.lake import Lake, LakeTable, begin, publish, release, seal, stage_days
from evergreen.lake.staging import new_attempt
from evergreen.settings import Settings, load_settings

LENGTHS = (150, 300, 600)

Measure = Callable[[Path, date], Mapping[str, float]]
"""Builds and publishes the features of a day in a home; gives `cpu_seconds` and `wall_seconds`."""


def bench(settings: Settings, lengths: Sequence[int], measure: Measure) -> dict[str, Any]:
    """Measures every length of history and compares.

    Args:
        settings: whose lake holds the transactions.
        lengths: days of history before the last day.
        measure: builds a day, see `Measure`.

    Returns:
        `lengths` (for each: `days`, `lines`, `full`, `next_day`, `daily`, and `full_to_next_day`, `full_to_daily`: how
        many times the CPU time of a day a full rebuild takes) and `daily_growth` (CPU time of a day at the longest
        history / at the shortest; 1 is flat).

    Raises:
        LakeError: there are fewer days of transactions than the shortest length needs.
    """
    source = Lake(settings.lake_path).table("transactions")
    days = source.days()
    possible = [length for length in sorted(lengths) if length < len(days)]
    if not possible:
        raise LakeError(
            f"transactions hold {len(days)} days, the shortest history needs {min(lengths) + 1}; ingest more"
        )
    found = [_one_length(source, days[-length - 1 :], measure) for length in possible]
    growth = found[-1]["daily"]["cpu_seconds"] / found[0]["daily"]["cpu_seconds"]
    return {"command": "python -m evergreen.jobs.bench_features", "lengths": found, "daily_growth": round(growth, 2)}


def _one_length(source: LakeTable, days: Sequence[date], measure: Measure) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        home = Path(folder)
        lake = Lake(home / "lake")
        before, last = days[-2], days[-1]
        lines = _publish(lake, source, days[:-1])
        full = dict(measure(home, before))
        lines += _publish(lake, source, [last])
        next_day = dict(measure(home, last))
        _publish(lake, source, [last], without=1)
        daily = dict(measure(home, last))
    return {
        "days": len(days) - 1,
        "lines": lines,
        "full": full,
        "next_day": next_day,
        "daily": daily,
        "full_to_next_day": round(full["cpu_seconds"] / next_day["cpu_seconds"], 2),
        "full_to_daily": round(full["cpu_seconds"] / daily["cpu_seconds"], 2),
    }


def _publish(lake: Lake, source: LakeTable, days: Sequence[date], without: int = 0) -> int:
    """Copies days, less their first `without` lines, and releases them. Gives the number of lines."""
    attempt = new_attempt()
    begin(lake, "transactions", attempt)
    copies: list[tuple[date, pa.Table]] = [(day, source.read(day, day).slice(without)) for day in days]
    stage_days(lake, "transactions", attempt, copies)
    staged = seal(lake, "transactions", attempt, start=days[0], end=days[-1], transform="bench/1", mark_empty=True)
    version = publish(lake, staged).version
    release(
        lake, "transactions", day=days[-1], digest=staged.digest, versions={"transactions": version or 0}, inputs={}
    )
    return staged.rows


def in_a_process(home: Path, day: date) -> dict[str, float]:
    """Builds a day in a process of its own, as the DAG does: the JVM's start counts."""
    environment = os.environ | {"EVERGREEN_HOME": str(home)}
    command = [sys.executable, "-m", "evergreen.jobs.bench_features", "--build", str(day)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LakeError(f"the build of {day} failed: {done.stderr.strip().splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def build_and_measure(settings: Settings, day: date) -> dict[str, float]:
    """Builds and publishes a day here; CPU time of this process and of the JVM that it started."""
    import psutil

    from evergreen.features.build import stage_features
    from evergreen.features.session import spark_session
    from evergreen.lake.staged_set import publish_set

    began = monotonic()
    staged = stage_features(lambda: spark_session(settings.spark), settings, day)
    publish_set(Lake(settings.lake_path), staged)
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    cpu = sum(spent.user + spent.system for spent in times)
    return {"cpu_seconds": round(cpu, 2), "wall_seconds": round(monotonic() - began, 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_features [--days N ...] [--out FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_features", description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=list(LENGTHS), help="lengths of history, days")
    parser.add_argument("--build", type=day_argument, help="build and measure this day only, in the settings' home")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    given = parser.parse_args(arguments)
    settings = load_settings()
    if given.build:
        return run_job(lambda: build_and_measure(settings, given.build), given.out)
    return run_job(lambda: bench(settings, given.days, in_a_process), given.out)


if __name__ == "__main__":
    sys.exit(main())
