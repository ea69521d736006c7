"""The list of commands."""

from __future__ import annotations

import sys

import typer

from evergreen.cli import (
    backup,
    bench,
    data,
    deploy,
    docs,
    images,
    loop,
    parts,
    registry,
    reproduce,
    search,
    workspaces,
)
from evergreen.jobs.entry import told_plainly

app = typer.Typer(
    name="evergreen",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Retrains a retailer's 'buy it again' model every day and ships no model without evidence.",
)
app.command("run")(loop.run)
app.command("backfill")(loop.backfill)
app.command("up")(parts.up)
app.command("down")(parts.down)
app.command("status")(parts.status)
# What follows `airflow` is for Airflow to read, `--help` too.
app.command(
    "airflow",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(parts.airflow)
app.command("features")(data.features)
app.command("score")(data.score)
app.command("sample")(data.sample)
app.command("rollback")(registry.rollback)
app.command("reproduce")(reproduce.reproduce)
app.command("search")(search.search)
app.add_typer(registry.ledger, name="ledger")
app.add_typer(workspaces.workspace, name="workspace")
app.command("deploy")(deploy.deploy)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("bench")(bench.bench)
app.command("docs")(docs.docs)
app.add_typer(images.images, name="images")


def main() -> None:
    """Runs the command line. Exit code 0 only on success; what Evergreen refuses is one line on standard error."""
    try:
        app(prog_name="./evergreen")
    except Exception as error:
        told = told_plainly(error)
        if told is None:
            raise
        sys.stderr.write(f"evergreen: {told}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("evergreen: interrupted; what was published stays, running it again goes on from there\n")
        sys.exit(130)
