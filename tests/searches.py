"""A small search as a process that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

TRIALS = 7
SPACE = {"max_depth": {"low": 2, "high": 9}, "learning_rate": {"low": 0.02, "high": 0.3, "log": True}}
ENVIRONMENT = {
    "EVERGREEN__TRAINING__THREADS": "1",
    "EVERGREEN__TRAINING__SEARCH__TRIALS": str(TRIALS),
    "EVERGREEN__TRAINING__SEARCH__SPACES": json.dumps({"xgboost": SPACE}),
    "EVERGREEN__TRAINING__SEARCH__FIXED": json.dumps({"xgboost": {"bags": 1, "rounds": 20, "min_child_weight": 1.0}}),
}
FACTS = ("params", "value", "folds", "state", "role")


def start(training_set: Path, home: Path, changes: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Begins a search, or goes on with it; `changes` are further variables of its environment."""
    command = [sys.executable, "-u", "-m", "evergreen.jobs.search", "--model", "xgboost"]
    return subprocess.Popen(
        [*command, "--training-set", str(training_set)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT | (changes or {}) | {"EVERGREEN_HOME": str(home)},
    )


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    """What a search prints until it ends well."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out.splitlines()


def told_of(lines: list[str]) -> list[str]:
    """The lines of trials that ended."""
    return [line for line in lines if line.startswith("trial ")]


def kill_after(process: subprocess.Popen[str], trials: int) -> None:
    """Ends the search, with no word to it, a moment after so many trials were told: while the next one runs."""
    assert process.stdout is not None
    for _ in range(trials):
        assert process.stdout.readline().startswith("trial ")
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def trials_of(line: str) -> list[dict]:
    """What each trial tried and how it was judged, from the last line of a search."""
    return [{fact: one[fact] for fact in FACTS} for one in json.loads(line)["table"]]
