"""`up`, `down` and `status`: the parts that run on this machine."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from evergreen.cli.console import console, print_json, progress_console
from evergreen.cli.options import AsJson
from evergreen.settings import Settings, load_settings

STYLE = {"up": "green", "running": "green", "stopped": "dim", "down": "dim"}


def up() -> None:
    """Start Airflow with its web UI, and MLflow."""
    from evergreen.platform.airflow import LocalAirflow, ensure_up
    from evergreen.platform.mlflow import LocalMlflow

    settings = load_settings()
    ensure_up(settings, say=lambda text: progress_console.print(f"  {text}"))
    mlflow = LocalMlflow(settings)
    mlflow.start()
    console.print(f"Airflow  {LocalAirflow(settings).url}\nMLflow   {mlflow.url}")


def down() -> None:
    """Stop Airflow and MLflow. What they were doing is told to stop and can be run again."""
    from evergreen.platform.airflow import LocalAirflow
    from evergreen.platform.mlflow import LocalMlflow

    settings = load_settings()
    stopped = [
        name
        for name, was_running in (
            ("Airflow", LocalAirflow(settings).stop()),
            ("MLflow", LocalMlflow(settings).service.stop()),
        )
        if was_running
    ]
    console.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def airflow(context: typer.Context) -> None:
    """Run an `airflow` command line on this profile's own Airflow: `airflow dags test score_batch -c '{...}'`."""
    from evergreen.platform.airflow import LocalAirflow

    if code := LocalAirflow(load_settings()).command(context.args):
        raise typer.Exit(code)


def status(as_json: AsJson = False) -> None:
    """Show the state of every part, the lake's tables and the champion."""
    document = collect_status(load_settings())
    if as_json:
        print_json(document)
        return
    parts = Table(title=f"Evergreen, profile {document['profile']}, {document['home']}", title_justify="left")
    for heading in ("part", "state", "where"):
        parts.add_column(heading)
    for name, part in document["parts"].items():
        style = STYLE.get(part["state"], "yellow")
        parts.add_row(name, f"[{style}]{part['state']}[/]", str(part.get("url", "")))
    console.print(parts)
    tables = Table(title="Lake", title_justify="left")
    for heading in ("table", "version", "first day", "last day", "rows", "digest"):
        tables.add_column(heading, justify="right" if heading in ("version", "rows") else "left")
    for name, table in document["lake"].items():
        tables.add_row(
            name,
            str(table["version"]),
            table["first_day"],
            table["last_day"],
            f"{table['rows']:,}",
            table["digest"][:12],
        )
    console.print(tables)
    champion = document["champion"]
    console.print(
        f"champion: version {champion['version']}, data of {champion['data_day']}, "
        f"evidence {champion['evidence_digest'][:12]}"
        if champion
        else "champion: none yet (./evergreen run)"
    )


def collect_status(settings: Settings) -> dict[str, Any]:
    """The state of every part, of the lake (versions, days, rows, digests) and of the champion, as JSON holds it."""
    from evergreen.lake import Lake
    from evergreen.lake.digest import digest_json
    from evergreen.platform.airflow import LocalAirflow
    from evergreen.platform.mlflow import LocalMlflow
    from evergreen.promotion import champion

    airflow, mlflow = LocalAirflow(settings).status(), LocalMlflow(settings)
    lake = Lake(settings.lake_path)
    tables = {}
    for name in lake.versions():
        table = lake.table(name)
        days = table.days()
        tables[name] = {
            "version": table.version,
            "first_day": str(days[0]) if days else "",
            "last_day": str(days[-1]) if days else "",
            "rows": table.rows,
            "digest": digest_json({str(day): digest for day, digest in table.digests.items()}),
        }
    current = champion.current(settings)
    return {
        "profile": settings.profile,
        "home": str(settings.home_path),
        "parts": {
            "airflow": {"state": airflow.state, "url": airflow.url},
            **{f"airflow {name}": {"state": state} for name, state in airflow.parts.items()},
            "mlflow": {"state": mlflow.state, "url": mlflow.url},
        },
        "lake": tables,
        "champion": None
        if current is None
        else {
            "version": current.version,
            "data_day": str(current.data_day),
            "evidence_digest": current.evidence_digest,
            "bundle_digest": current.bundle_digest,
            "generation": current.generation,
        },
    }
