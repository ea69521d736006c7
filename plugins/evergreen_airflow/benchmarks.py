"""What each DAG costs to parse, against an empty DAG: workers pay it again for every task.

`python -m evergreen_airflow.benchmarks [--repeats N] [--out FILE]`. Every parse runs in an interpreter of its own,
Airflow's import included, as the peer's does. The figures are CPU seconds, which other load on the machine moves less
than the clock; peer and DAGs take turns, and the median of the turns counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

DAGS = Path(__file__).resolve().parents[2] / "dags"
GOAL = 1.25
REPEATS = 7
PEER = '''from airflow.sdk import dag


@dag
def empty() -> None:
    """Nothing."""


empty()
'''


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the JSON as the last line, and writes it to `--out`. 1 where a DAG misses the goal."""
    parser = argparse.ArgumentParser(prog="evergreen_airflow.benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="turns; the median counts")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    given = parser.parse_args(arguments)
    report = dag_parse(given.repeats)
    text = json.dumps(report, indent=1)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")
    print(json.dumps(report))
    return 0 if report["passed"] else 1


def dag_parse(
    repeats: int = REPEATS, dags: Path = DAGS, measure: Callable[[Path], float] | None = None
) -> dict[str, Any]:
    """CPU seconds of parsing each DAG file, and its ratio to the empty DAG.

    Args:
        repeats: turns that each file takes.
        dags: folder of the DAG files.
        measure: gives the seconds of one parse; by default a fresh interpreter's CPU time.

    Returns:
        `bench`, `peer`, `goal` (greatest ratio), `repeats`, `peer_seconds`, `dags` (name -> `seconds`, `ratio`),
        `worst` (name of the slowest) and `passed`.
    """
    measure = measure or parse_seconds
    with tempfile.TemporaryDirectory() as folder:
        peer = Path(folder) / "empty.py"
        peer.write_text(PEER)
        files = [peer, *sorted(dags.glob("*.py"))]
        for file in files:
            measure(file)  # bytecode is written, and the disk is warm
        turns = [{file: measure(file) for file in files} for _ in range(repeats)]
    seconds = {file: median(turn[file] for turn in turns) for file in files}
    figures = {
        file.stem: {"seconds": round(seconds[file], 4), "ratio": round(seconds[file] / seconds[peer], 3)}
        for file in files[1:]
    }
    worst = max(figures, key=lambda name: figures[name]["ratio"])
    return {
        "command": "python -m evergreen_airflow.benchmarks",
        "peer": "an empty airflow.sdk DAG",
        "goal": GOAL,
        "repeats": repeats,
        "peer_seconds": round(seconds[peer], 4),
        "dags": figures,
        "worst": worst,
        "passed": figures[worst]["ratio"] <= GOAL,
    }


def parse_seconds(file: Path) -> float:
    """CPU seconds, user and system, of an interpreter that runs one DAG file.

    Raises:
        subprocess.CalledProcessError: the file cannot be imported.
    """
    before = os.times()
    subprocess.run([sys.executable, str(file)], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


if __name__ == "__main__":
    sys.exit(main())
