"""`search`: looks for better parameters of a candidate on the newest training set."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from evergreen.cli.console import console, print_json, progress_console, seconds
from evergreen.cli.options import AsJson
from evergreen.errors import TrainingError
from evergreen.settings import load_settings
from evergreen.settings.search import SearchSettings, Strategy
from evergreen.training.search.workers import THREADS

if TYPE_CHECKING:
    from evergreen.settings import Settings

SHOWN = 10  # trials in the table


def search(
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Model whose parameters are searched.")] = (
        "xgboost"
    ),
    for_seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="N", help="No trial goes on after so many seconds.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="So many trials, pruned ones too.")
    ] = None,
    strategy: Annotated[
        Strategy | None, typer.Option("--strategy", help="How the next trial is chosen. Default: of the settings.")
    ] = None,
    parallel: Annotated[int | None, typer.Option("--parallel", metavar="N", help="Trials at once.")] = None,
    customers_share: Annotated[
        float | None, typer.Option("--customers", metavar="SHARE", help="Share of the customers that is read.")
    ] = None,
    training_set: Annotated[
        Path | None, typer.Option("--training-set", metavar="FOLDER", help="Its folder. Default: the newest one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search a model's parameters on rolling-origin folds of the newest training set.

    The first trial is the model's defaults. What is not given comes from settings.training.search. A search that was
    killed goes on where it was; one that used up its budget goes on with a larger one. What beats the defaults is used
    by the next training.
    """
    settings = load_settings()
    changed = {
        "seconds": for_seconds,
        "trials": trials,
        "strategy": strategy,
        "parallel": parallel,
        "customers_share": customers_share,
    }
    chosen = budget(settings.training.search, changed)
    folder = training_set or newest_training_set(settings)
    threads = str(max(1, settings.training.trainer_threads // chosen.parallel))
    os.environ |= dict.fromkeys(THREADS, threads)  # read when the libraries are loaded
    from evergreen.training.search.study import run_search

    outcome = run_search(settings, folder, model, search=chosen, say=lambda line: progress_console.print(escape(line)))
    _track(settings, outcome)
    if as_json:
        print_json(outcome)
    else:
        show(settings, outcome)


def budget(search: SearchSettings, changed: Mapping[str, Any]) -> SearchSettings:
    """The settings of the search with what the command line says instead.

    Raises:
        TrainingError: a value is out of its range; names the option.
    """
    from pydantic import ValidationError

    given = {name: value for name, value in changed.items() if value is not None}
    try:
        return SearchSettings.model_validate(search.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "search"
        raise TrainingError(f"{name} is {first.get('input')!r}: {first['msg']}") from None


def newest_training_set(settings: Settings) -> Path:
    """Folder of the training set with the newest day of data; among equal ones the last that was made.

    Raises:
        TrainingError: there is none yet.
    """
    found = []
    for manifest in (settings.home_path / "training_sets").glob("*/manifest.json"):
        day = json.loads(manifest.read_text()).get("day", "")
        found.append((day, manifest.stat().st_mtime, manifest.parent))
    if not found:
        raise TrainingError(
            f"{settings.home_path / 'training_sets'} holds no training set: make one by ./evergreen run, or name one "
            "with --training-set"
        )
    return max(found)[2]


def show(settings: Settings, outcome: Mapping[str, Any]) -> None:
    """The trials that came far enough, best first, and what that means."""
    from evergreen.training.search.outcome import why_not_used  # pandas: not needed to list commands

    metric = str(outcome["metric"])
    complete = [one for one in outcome["table"] if one["state"] == "complete"]
    complete.sort(key=lambda one: (one["value"] if outcome["lower_is_better"] else -one["value"], one["number"]))
    title = f"{outcome['model']}, {len(outcome['folds'])} folds of {outcome['day']}"
    trials = Table("trial", metric, "seconds", "", title=title, title_justify="left")
    for one in complete[:SHOWN]:
        role = "" if one["role"] == "proposed" else one["role"]
        trials.add_row(str(one["number"]), f"{one['value']:.4f}", f"{one['seconds']:.1f}", role)
    console.print(trials)
    params = Table("parameter", "default", "best")
    for name in outcome["space"]:
        params.add_row(name, *(_short(outcome[which]["params"][name]) for which in ("default", "best")))
    console.print(params)
    counts = outcome["trials"]
    console.print(
        f"{counts['complete']} complete, {counts['pruned']} pruned and {counts['failed']} failed of "
        f"{counts['wanted']} trials in {seconds(outcome['seconds'])}"
    )
    why_not = why_not_used(settings, outcome)
    used = (
        f"the best is not used: {why_not}"
        if why_not
        else f"gain {outcome['gain']:.4f}: the next training uses the best"
    )
    console.print(used, soft_wrap=True)


def _track(settings: Settings, outcome: Mapping[str, Any]) -> None:
    """MLflow is for people to look at: where it does not answer the search is good all the same."""
    from mlflow.exceptions import MlflowException

    from evergreen.training.search.tracking import log_search

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # a new database is told at length
    try:
        log_search(settings, outcome)
    except MlflowException as error:
        progress_console.print(f"[yellow]MLflow has no record of this search:[/] {escape(str(error).splitlines()[0])}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
