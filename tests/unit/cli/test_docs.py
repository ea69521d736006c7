"""The reference pages are what the code is, and `docs --check` notices when they are not."""

from __future__ import annotations

import ast
import re
from datetime import date
from pathlib import Path
from typing import Literal, cast

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.testing import CliRunner

from evergreen.cli.app import app
from evergreen.cli.docs import reference_pages
from evergreen.cli.reference.dags import dags_page
from evergreen.cli.reference.markdown import page, table
from evergreen.cli.reference.settings import type_in_words
from evergreen.errors import EvergreenError
from evergreen.features.registry import FEATURES
from evergreen.lake.schemas import TABLES
from evergreen.settings.tree import Settings

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference_pages(cast(TyperGroup, typer.main.get_command(app)), PROJECT)


def test_the_pages_are_current(pages: dict[str, str]) -> None:
    stale = [name for name, text in pages.items() if (PROJECT / name).read_text() != text]
    assert stale == [], "./evergreen docs renews them"


def test_check_names_stale_pages_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("evergreen", "dags", "plugins"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.setattr("evergreen.settings.tree.PROJECT", tmp_path)
    run = CliRunner().invoke

    missing = run(app, ["docs", "--check"])
    assert isinstance(missing.exception, EvergreenError)
    assert not (tmp_path / "docs").exists()

    assert "6 pages, 6 renewed" in run(app, ["docs"]).output
    assert "6 pages, all current" in run(app, ["docs", "--check"]).output

    (tmp_path / "docs/reference/tables.md").write_text("# Tables")
    stale = run(app, ["docs", "--check"])
    assert str(stale.exception) == "docs/reference/tables.md not as the code is: ./evergreen docs renews them"
    assert (tmp_path / "docs/reference/tables.md").read_text() == "# Tables"


def test_every_command_has_a_chapter(pages: dict[str, str]) -> None:
    text = pages["docs/reference/commands.md"]
    chapters = set(re.findall(r"^## (.+)$", text, re.MULTILINE)) - {"Of the launcher"}
    registered = {command.name for command in app.registered_commands}
    groups = {
        f"{group.name} {command.name}"
        for group in app.registered_groups
        if group.typer_instance
        for command in group.typer_instance.registered_commands
    }
    assert chapters == registered | groups
    assert all(f"| `{name}` |" in text for name in ("setup", "test", "lint"))


def test_every_setting_has_a_line_with_its_variable(pages: dict[str, str]) -> None:
    def leaves(model: type[BaseModel], path: str = "EVERGREEN") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            here = f"{path}__{name.upper()}"
            inner = field.annotation
            is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
            found += leaves(inner, here) if is_section else [here]
        return found

    told = set(re.findall(r"\| `(EVERGREEN_\w+)` \|", pages["docs/reference/settings.md"]))
    assert told == {*leaves(Settings), "EVERGREEN_HOME", "EVERGREEN_PROFILE"} - {
        "EVERGREEN__HOME",
        "EVERGREEN__PROFILE",
    }


def test_every_column_and_feature_has_a_line(pages: dict[str, str]) -> None:
    tables, features = pages["docs/reference/tables.md"], pages["docs/reference/features.md"]
    for spec in TABLES.values():
        chapter = tables.split(f"\n## {spec.name}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE) == spec.schema.names
    assert [name for name in re.findall(r"^\| `(\w+)` \|", features, re.MULTILINE)][: len(FEATURES)] == [
        feature.name for feature in FEATURES
    ]


def test_every_task_id_of_a_dag_file_is_told(pages: dict[str, str]) -> None:
    for file in (PROJECT / "dags").glob("*.py"):
        chapter = pages["docs/reference/dags.md"].split(f"\n## {file.stem}\n")[1].split("\n## ")[0]
        for task in re.findall(r'task_id="(\w+)"', file.read_text()):
            assert f"| `{task}` |" in chapter
        assert ast.get_docstring(ast.parse(file.read_text())) in chapter


DAG = '''
"""Do it.

- **Starts** by hand.
"""
from x import Param, Tag, dag, day_param, task, A, B


@dag(
    schedule=None,
    max_active_runs=3,
    params={"day": day_param("Which."), "many": Param(4, type=["null", "integer"], description="How | many.")},
    tags=[Tag.ONE, Tag.TWO],
)
def do_it():
    @task
    def listed(n):
        """Lists."""

    first = A(task_id="one", outlets=[GOODS])
    them = listed(first.output)
    last = B.partial(task_id="two").expand(n=them)
    first >> them >> last


do_it()
'''


def test_a_dag_is_read_without_airflow(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "do_it.py").write_text(DAG)
    (tmp_path / "defaults.py").write_text('class Tag:\n    """All."""\n    ONE = "one"\n    TWO = "by-two"\n')
    made = dags_page(tmp_path / "dags", tmp_path / "defaults.py")
    for line in (
        "| schedule | by hand only |",
        "| runs at once | 3 |",
        "| tags | one, by-two |",
        "| `day` | date | empty | Which. |",
        "| `many` | integer | `4` | How \\| many. |",
        "| `one` | `A` | asset `goods` |",
        "| `listed` | `@task` |  |",
        "| `two` | `B (mapped)` |  |",
        "one >> listed >> two",
    ):
        assert line in made.splitlines()


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "whole number"),
        (int | None, "whole number or empty"),
        (int | Literal["auto"], "whole number or `auto`"),
        (tuple[str, ...], "list of text"),
        (dict[str, date], "mapping of text to day"),
        (bytes, "<class 'bytes'>"),
    ],
)
def test_types_are_told_in_words(annotation: object, words: str) -> None:
    assert type_in_words(annotation) == words


def test_a_table_cannot_be_broken_by_its_cells() -> None:
    assert table(("a", "b"), [("x | y", "two\nlines")]).splitlines()[-1] == "| x \\| y | two lines |"
    assert table(("a",), []) == ""
    assert page("T", "", "text").endswith("\n\n# T\n\ntext\n")
