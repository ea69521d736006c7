"""`run` walks the whole loop for a day through Airflow; `backfill` loads days that were missed."""

from __future__ import annotations

import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from evergreen.cli.console import console, print_json, progress_console, seconds
from evergreen.cli.follow import APPROVAL_TASK, Stage, follow
from evergreen.cli.options import AsJson, Day, SourceOption, parse_day
from evergreen.errors import PlatformError, SourceError
from evergreen.settings import Settings, load_settings

if TYPE_CHECKING:
    from evergreen.platform.client import AirflowClient

STAGE_NAMES = {
    "ingest_transactions": "ingest",
    "build_features": "features",
    "train_candidates": "train",
    "promote_model": "promote",
    "score_batch": "score",
}


def run(
    source: SourceOption = "",
    day: Day = None,
    yes: Annotated[bool, typer.Option("--yes", help="Answer the approval with yes.")] = False,
    accept_volume: Annotated[
        bool, typer.Option("--accept-volume", help="Publish the day although its number of lines is unusual.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Load purchases up to a day and walk the whole loop for it: ingest, features, training, verdict, approval, scores.

    Running it again for the same day publishes nothing new and says so.
    """
    from evergreen.cli.summary import collect, show
    from evergreen.ingest.loaded import first_day_to_load, note_loaded
    from evergreen.ingest.sources import remember_source, resolve_source
    from evergreen.platform import airflow

    begun = time.monotonic()
    settings = load_settings()
    found = resolve_source(settings, source)
    day = day or (settings.sample.day if found.name == "sample" else found.last_day())
    first = found.first_day()
    if not first <= day <= found.last_day():
        raise SourceError(
            f"day {day} is not in {found.name}, which has {first} to {found.last_day()}: give one of these"
        )
    absolute = str(Path(source).expanduser().absolute()) if source and "://" not in source else source
    _enter_workspace(settings, source)
    if source:
        remember_source(settings, source)
    timings = {"source": time.monotonic() - begun}

    begun = time.monotonic()
    progress_console.print(f"[bold]evergreen[/] {day}, from {found.name}")
    client = airflow.ensure_up(settings, say=lambda text: progress_console.print(f"  {text}"))
    timings["airflow"] = time.monotonic() - begun

    since = datetime.now(UTC)
    conf = {"day": str(day), "start": str(first_day_to_load(settings, found, day)), "source": absolute}
    begun_run = client.trigger(
        "ingest_transactions", conf=conf | {"accept_volume": accept_volume}, partition_key=str(day)
    )
    stages: dict[str, Stage] = {}
    reporter = _Reporter()
    for stage in follow(
        client,
        day,
        begun_run["dag_run_id"],
        since,
        on_change=reporter,
        on_approval=lambda stage: _approve(client, settings, stage, yes=yes),
    ):
        stages[stage.dag_id] = stage
        if stage.dag_id == "ingest_transactions":
            note_loaded(settings, found, day)
        timings[STAGE_NAMES[stage.dag_id]] = stage.seconds
        progress_console.print(f"  [green]✓[/] {STAGE_NAMES[stage.dag_id]:<10} {seconds(stage.seconds)}")

    _start_mlflow(settings)
    result = collect(settings, client, day, stages, timings)
    if as_json:
        print_json(result.document())
    else:
        show(console, result)


def backfill(
    start: Annotated[date, typer.Option("--from", parser=parse_day, metavar="DAY", help="First day.")],
    end: Annotated[date, typer.Option("--to", parser=parse_day, metavar="DAY", help="Last day, inclusive.")],
    max_active_runs: Annotated[int, typer.Option("--max-active-runs", min=1, help="Days ingested at once.")] = 1,
    source: SourceOption = "",
    reprocess: Annotated[
        bool,
        typer.Option(
            "--reprocess/--no-reprocess", help="Also run days that were run before; unchanged ones publish nothing."
        ),
    ] = True,
) -> None:
    """Ingest each day from one to another through `airflow backfill create`; features follow by their assets.

    A backfill trains nothing and promotes nothing: the champion stays as it is.
    """
    from evergreen.platform import airflow

    if end < start:
        raise typer.BadParameter(f"--to {end} lies before --from {start}")
    settings = load_settings()
    client = airflow.ensure_up(settings)
    created = client.backfill(
        "ingest_transactions",
        start,
        end,
        conf={"source": source} if source else {},
        max_active_runs=max_active_runs,
        reprocess=reprocess,
    )
    client.await_backfill(
        created["id"], on_progress=lambda done, total: progress_console.print(f"  {done}/{total} days")
    )
    progress_console.print(f"[green]✓[/] {start} to {end} ingested; build_features follows, day by day")


def _enter_workspace(settings: Settings, source: str) -> None:
    """Points commands at the workspace of a source, once it is known to be readable."""
    from evergreen.ingest.sources import workspace_name
    from evergreen.settings import workspace

    if source:
        workspace.choose(settings.root_path, workspace_name(source))
    elif not (settings.root_path / workspace.OWNER).exists():
        workspace.choose(settings.root_path, workspace_name(settings.ingest.source))


def _start_mlflow(settings: Settings) -> None:
    """Brings up the page that the summary names. The day is done: a taken port must not make it a failure."""
    from evergreen.platform.mlflow import LocalMlflow

    try:
        LocalMlflow(settings).start()
    except PlatformError as error:
        progress_console.print(f"  [yellow]MLflow's pages are not up:[/] {error}")


class _Reporter:
    """Prints a line for each task that ends: what a person watches while the loop runs."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def __call__(self, stage: Stage) -> None:
        for task in stage.tasks:
            key = (stage.run_id, task.label)
            if task.state in ("success", "skipped", "failed", "up_for_retry") and key not in self._told:
                if task.state != "up_for_retry":
                    self._told.add(key)
                mark = {"success": "[green]•[/]", "skipped": "[dim]-[/]"}.get(task.state, "[red]![/]")
                note = f"[dim]{task.seconds:6.1f} s[/]" if task.state == "success" else f"[dim]{task.state}[/]"
                label = escape(f"{task.label:<24}")  # `train[xgboost]` is no style
                progress_console.print(f"    {mark} {STAGE_NAMES[stage.dag_id]}.{label} {note}")


def _approve(client: AirflowClient, settings: Settings, stage: Stage, *, yes: bool) -> None:
    from evergreen.cli.summary import show_evidence

    verdict = client.xcom(stage.dag_id, stage.run_id, "judge")
    show_evidence(progress_console, settings, verdict)
    if not yes and not sys.stdin.isatty():
        page = client.task_url(stage.dag_id, stage.run_id, APPROVAL_TASK)
        progress_console.print(f"  waiting for an approval in the web UI: {page}", soft_wrap=True)
        return
    answer = yes or typer.confirm("Promote this model?", default=False, err=True)
    client.answer(stage.dag_id, stage.run_id, APPROVAL_TASK, approve=answer)
    progress_console.print(f"  {'approved' if answer else 'rejected'} by {client.user}")
