"""`docs`: writes the reference pages, or says which of them are no longer true."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from evergreen.cli.console import console
from evergreen.errors import EvergreenError

if TYPE_CHECKING:
    from typer.core import TyperGroup


def docs(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 names stale pages.")] = False,
) -> None:
    """Write docs/reference from the commands, settings, DAGs, tables, features and benchmarks as they are."""
    from evergreen.settings.tree import PROJECT

    made = reference_pages(cast("TyperGroup", context.find_root().command), PROJECT)
    stale = [name for name, text in made.items() if _read(PROJECT / name) != text]
    if check and stale:
        raise EvergreenError(f"{', '.join(stale)} not as the code is: ./evergreen docs renews them")
    for name in stale:
        (PROJECT / name).parent.mkdir(parents=True, exist_ok=True)
        (PROJECT / name).write_text(made[name])
    console.print(f"{len(made)} pages, {f'{len(stale)} renewed' if stale else 'all current'}")


def reference_pages(group: TyperGroup, project: Path) -> dict[str, str]:
    """Text of each reference page by its path in the project.

    Args:
        group: the command line's commands.
        project: folder with `evergreen`, `dags`, `plugins` and `benchmarks`.
    """
    from evergreen.cli.reference.commands import commands_page
    from evergreen.cli.reference.dags import dags_page
    from evergreen.cli.reference.lake import features_page, tables_page
    from evergreen.cli.reference.settings import settings_page
    from evergreen.cli.reference.sizing import sizing_page

    pages = {
        "commands": commands_page(group, project / "evergreen"),
        "settings": settings_page(),
        "dags": dags_page(project / "dags", project / "plugins" / "evergreen_airflow" / "defaults.py"),
        "tables": tables_page(),
        "features": features_page(),
        "sizing": sizing_page(project / "benchmarks"),
    }
    return {f"docs/reference/{name}.md": text for name, text in pages.items()}


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""
