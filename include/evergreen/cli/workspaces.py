"""`workspace`: which shop's lake, champion and ledger commands work on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from evergreen.cli.console import console, print_json
from evergreen.cli.options import AsJson
from evergreen.settings import load_settings
from evergreen.settings import workspace as places

workspace = typer.Typer(
    help="Each source has a lake, a champion and a ledger of its own: which of them commands work on.",
    no_args_is_help=True,
)


@workspace.command("list")
def show(as_json: AsJson = False) -> None:
    """Show the workspaces; `*` marks the one that commands work on."""
    found = places.workspaces(load_settings().root_path)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        console.print(f"{'*' if one.current else ' '} {one.name}  {one.folder}", soft_wrap=True)
    if not found:
        console.print("no workspace yet: ./evergreen run makes the first")


@workspace.command("use")
def use(name: Annotated[str, typer.Argument(metavar="NAME", help="As `workspace list` shows it.")]) -> None:
    """Go to another workspace. Nothing is moved: the next command works there."""
    from evergreen.platform.airflow import LocalAirflow

    settings = load_settings()
    running = LocalAirflow(settings).status().state != "down"
    before = settings.home_path
    chosen = places.use(settings.root_path, name)
    console.print(f"commands work on {chosen.name} now: {chosen.folder}", soft_wrap=True)
    if running and before != chosen.folder:
        console.print("the Airflow of the workspace before still runs: ./evergreen up stops it and starts this one's")
