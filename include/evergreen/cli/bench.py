"""`bench`: ratios against a named peer, measured in one run."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from evergreen.errors import PlatformError

# each benchmark is a module with a `main` that prints its JSON and writes it to the file that `--out` names
BENCHES = {
    "features": "evergreen.jobs.bench_features",
    "dag-parse": "evergreen_airflow.benchmarks",
    "online-store": "evergreen.jobs.bench_online_store",
    "point-in-time-join": "evergreen.jobs.bench_point_in_time_join",
    "explain": "evergreen.jobs.bench_explain",
    "training": "evergreen.jobs.bench_training",
    "verdict": "evergreen.jobs.bench_verdict",
    "poisoning": "evergreen.jobs.bench_poisoning",
    "candidates": "evergreen.jobs.bench_candidates",
}


def bench(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(BENCHES)}.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="Options of the benchmark itself, after `--`; `-- --help` tells which.")
    ] = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Default: benchmarks/NAME.json.")] = "",
) -> None:
    """Measure a ratio against a named peer; the JSON is printed and kept under benchmarks/."""
    from evergreen.settings.tree import PROJECT

    if name not in BENCHES:
        raise typer.BadParameter(f"{name!r} is unknown, expected one of: {', '.join(BENCHES)}")
    file = out or str(PROJECT / "benchmarks" / f"{name}.json")
    command = [sys.executable, "-m", BENCHES[name], "--out", file, *(options or [])]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise PlatformError(f"bench {name} ended with code {code}: its last lines are above")
