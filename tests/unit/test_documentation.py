"""What the pages name exists: files, links, commands, settings and variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from evergreen.cli.app import app
from evergreen.settings.tree import Settings

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
ROOTS = (
    "include/",
    "plugins/",
    "dags/",
    "docs/",
    "tests/",
    "feature_repo/",
    "requirements/",
    "benchmarks/",
    "evergreen/",
)
OWN_COMMANDS = {"setup", "test", "lint"}


def test_the_pages_are_found() -> None:
    assert {"README.md", "docs/tutorial.md", "docs/reference/dags.md"} <= {
        page.relative_to(PROJECT).as_posix() for page in PAGES
    }
    assert len(list(named(r"\./evergreen (run)"))) > 10, "the patterns find something"


def named(pattern: str) -> Iterator[tuple[str, str]]:
    """(page, what the pattern's group found) over all pages."""
    for page in PAGES:
        for found in re.findall(pattern, page.read_text()):
            yield page.relative_to(PROJECT).as_posix(), found


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    broken = []
    for name, target in named(r"\]\((?!https?://)([^)\s]+)\)"):
        path, _, anchor = target.partition("#")
        file = (PROJECT / name).parent / path if path else PROJECT / name
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(f"{name}: {target}")
    assert broken == []


def test_files_that_are_named_exist() -> None:
    missing = []
    for name, text in named(r"`([\w./-]+\.(?:py|md|json|yaml|yml|lock|in|txt))`"):
        roots = (PROJECT, PROJECT / "include", PROJECT / "include" / "evergreen")
        if text.startswith(ROOTS) and not any((root / text).exists() for root in roots):
            missing.append(f"{name}: {text}")
    assert missing == []


def test_modules_that_are_named_exist() -> None:
    missing = []
    for name, text in named(r"`(evergreen(?:_airflow)?(?:\.\w+)+)`"):
        parts = text.split(".")
        folder = PROJECT / ("plugins" if parts[0] == "evergreen_airflow" else "include")
        inner = folder.joinpath(*parts)
        outer = folder.joinpath(*parts[:-1]).with_suffix(".py")
        is_module = inner.is_dir() or inner.with_suffix(".py").exists()
        if not is_module and not (outer.exists() and re.search(rf"\b{parts[-1]}\b", outer.read_text())):
            missing.append(f"{name}: {text}")
    assert missing == []


def test_commands_that_are_named_exist() -> None:
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    unknown = {
        f"{name}: {text}" for name, text in named(r"\./evergreen ([a-z]\w*)") if text not in known | OWN_COMMANDS
    }
    assert unknown == set()


def test_options_that_are_named_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wrong = []
    for name, text in named(r"\./evergreen ([a-z]+[^`\n|#]*)"):
        command, *rest = text.partition(" -- ")[0].split()  # behind it stand a benchmark's own
        options = {part.split("=")[0] for part in rest if part.startswith("--")}
        if command in commands and not hasattr(commands[command], "commands") and command != "airflow":
            known = {option for param in commands[command].params for option in param.opts} | {"--help"}
            wrong += [f"{name}: {command} {option}" for option in sorted(options - known)]
    assert wrong == []


def settings_path(path: str) -> bool:
    model: object = Settings
    for part in path.split("."):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return True  # inside a mapping
        if part not in model.model_fields:
            return False
        model = model.model_fields[part].annotation
    return True


def test_settings_that_are_named_exist() -> None:
    unknown = [f"{name}: {text}" for name, text in named(r"`settings\.([a-z_.]+[a-z])") if not settings_path(text)]
    unknown += [
        f"{name}: {text}"
        for name, text in named(r"EVERGREEN__((?!SECTION)\w+)")
        if not settings_path(text.lower().replace("__", "."))
    ]
    assert unknown == []


@pytest.mark.parametrize(("path", "is_there"), [("training.steps", True), ("training.stops", False), ("no", False)])
def test_an_unknown_setting_would_be_noticed(path: str, is_there: bool) -> None:
    assert settings_path(path) is is_there
