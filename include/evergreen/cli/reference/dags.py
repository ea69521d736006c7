"""The page of DAGs, read from their files: Airflow is not imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evergreen.cli.reference.markdown import block, code, page, table

INTRODUCTION = """\
One DAG a file in `dags/`; the text below is the file's docstring, which the web UI shows too. Runs know their day by
the partition key, or by the param `day` when they are started by hand."""


@dataclass(frozen=True)
class Task:
    """One task as its file declares it."""

    name: str
    operator: str
    outlets: str


def dags_page(folder: Path, defaults: Path) -> str:
    """The page.

    Args:
        folder: of the DAG files.
        defaults: the module with the vocabulary of tags, a class `Tag`.
    """
    tags = tag_values(defaults)
    return page("DAGs", INTRODUCTION, *(part for file in sorted(folder.glob("*.py")) for part in _of_dag(file, tags)))


def tag_values(defaults: Path) -> dict[str, str]:
    """Value of each member of the class `Tag`."""
    tree = ast.parse(defaults.read_text())
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Tag")
    members = [node for node in found.body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in members}


def _of_dag(file: Path, tags: dict[str, str]) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    made = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == file.stem)
    [decorator] = [node for node in made.decorator_list if isinstance(node, ast.Call)]
    given = {keyword.arg: keyword.value for keyword in decorator.keywords if keyword.arg}
    yield f"## {file.stem}"
    yield ast.get_docstring(tree) or ""
    yield table(
        ("", ""),
        (
            ("schedule", "by hand only" if _is_none(given["schedule"]) else code(ast.unparse(given["schedule"]))),
            ("runs at once", ast.unparse(given["max_active_runs"])),
            ("tags", ", ".join(tags[node.attr] for node in ast.walk(given["tags"]) if isinstance(node, ast.Attribute))),
        ),
    )
    yield table(("param", "type", "default", "meaning"), _params(given.get("params")))
    yield table(
        ("task", "operator", "publishes"),
        ((code(task.name), code(task.operator), task.outlets) for task in _tasks(made)),
    )
    yield block("\n".join(_edges(made)))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _params(node: ast.expr | None) -> Iterator[tuple[str, str, str, str]]:
    if not isinstance(node, ast.Dict):
        return
    for key, value in zip(node.keys, node.values, strict=True):
        assert isinstance(key, ast.Constant)
        assert isinstance(value, ast.Call)
        name = code(key.value)
        if ast.unparse(value.func) == "day_param":
            yield name, "date", "empty", ast.literal_eval(value.args[0])
            continue
        given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in value.keywords}
        kinds = given["type"] if isinstance(given["type"], list) else [given["type"]]
        kind = given.get("format") or " or ".join(kind for kind in kinds if kind != "null")
        default = ast.literal_eval(value.args[0])
        yield name, kind, "empty" if default in (None, "") else code(str(default).lower()), given["description"]


def _tasks(made: ast.FunctionDef) -> Iterator[Task]:
    """Tasks in the order of the file: operators by their `task_id`, functions with `@task` by their name."""
    for statement in made.body:
        if isinstance(statement, ast.FunctionDef):
            yield Task(statement.name, "@task", "")
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if "task_id" in given:
                operator = ast.unparse(node.func).removesuffix(".partial")
                mapped = " (mapped)" if ast.unparse(node.func).endswith(".partial") else ""
                outlets = given.get("outlets")
                names = [element for element in ast.walk(outlets) if isinstance(element, ast.Name)] if outlets else []
                yield Task(
                    ast.literal_eval(given["task_id"]),
                    f"{operator}{mapped}",
                    ", ".join(f"asset {code(name.id.lower())}" for name in names),
                )


def _edges(made: ast.FunctionDef) -> Iterator[str]:
    """The edges as the file draws them; the name of a single task where there are none."""
    drawn = [
        ast.unparse(statement.value)
        for statement in made.body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.BinOp)
    ]
    names = {
        statement.targets[0].id: task.name
        for statement in made.body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        for task in _called(statement, made)
    }
    for edge in drawn:
        yield " >> ".join(names.get(part, part) for part in edge.split(" >> "))
    if not drawn:
        yield from (task.name for task in _tasks(made))


def _called(statement: ast.Assign, made: ast.FunctionDef) -> Iterator[Task]:
    """The task that an assignment makes: by its `task_id`, or by the function that it calls."""
    source = ast.unparse(statement.value)
    for task in _tasks(made):
        if f"task_id={task.name!r}" in source or source.startswith(f"{task.name}("):
            yield task
