"""The page of commands: those of the command line, and those that the launcher runs itself."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from evergreen.cli.reference.markdown import block, code, page, table

if TYPE_CHECKING:
    from typer.core import TyperCommand, TyperGroup

INTRODUCTION = """\
`./evergreen COMMAND` is the only door. The first command sets the project up: an environment in `.venv` from the
hash-pinned lock, and Java where Spark needs it. Exit code 0 means success and nothing else does; an error is one line
on standard error that says what was seen, what was expected and what to do. `./evergreen COMMAND --help` tells the
same as this page."""


def commands_page(group: TyperGroup, launcher: Path) -> str:
    """The page.

    Args:
        group: the command line's own commands.
        launcher: the executable, whose help lists the commands that it runs without the command line.
    """
    root = typer.Context(cast(Any, group), info_name="./evergreen")
    own = table(("command", "does"), ((code(name), text) for name, text in launcher_commands(launcher).items()))
    return page(
        "Commands",
        INTRODUCTION,
        *_of_group(group, root),
        "## Of the launcher",
        "These need no Airflow and no Java, `test` apart, which starts Spark.",
        own,
    )


def launcher_commands(launcher: Path) -> dict[str, str]:
    """Name and line of help of each command that the launcher runs itself, from its `HELP_HERE`."""
    tree = ast.parse(launcher.read_text())
    texts = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HELP_HERE"
    ]
    return dict(re.findall(r"^  (\S+) +(.+)$", texts[0], re.MULTILINE))


def _of_group(group: TyperGroup, parent: typer.Context) -> Iterator[str]:
    commands = cast("Mapping[str, TyperCommand | TyperGroup]", group.commands)
    for name, command in commands.items():
        context = typer.Context(cast(Any, command), info_name=name, parent=cast(Any, parent))
        if hasattr(command, "commands"):
            yield from _of_group(cast("TyperGroup", command), context)
            continue
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        records = [record for param in command.params if (record := param.get_help_record(context))]
        yield f"## {context.command_path.removeprefix('./evergreen ')}"
        yield block(usage)
        yield inspect.cleandoc(command.help or "")
        yield table(("argument", "meaning"), ((code(left), right) for left, right in records))
