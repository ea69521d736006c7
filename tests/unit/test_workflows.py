"""The workflows: they call the commands that a person calls, in the right order, with no more rights than they need."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from evergreen.cli.app import app
from evergreen.settings import load_settings

PROJECT = Path(__file__).resolve().parents[2]
WORKFLOWS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted((PROJECT / ".github/workflows").glob("*.yml"))
}
OF_THE_LAUNCHER = {"setup": set[str](), "lint": {"--fix"}, "test": {"--all", "-m", "-k", "-q", "-x"}}
COMMANDS = [
    (name, line.strip())
    for name, workflow in WORKFLOWS.items()
    for job in workflow["jobs"].values()
    for step in job["steps"]
    for line in step.get("run", "").splitlines()
    if "./evergreen" in line
]


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def unknown_in(words: list[str]) -> str | None:
    """What of a command line does not exist."""
    first, rest = words[0], words[1:]
    if first in OF_THE_LAUNCHER:
        options = {word for word in rest if word.startswith("-")} - OF_THE_LAUNCHER[first]
        missing = [word for word in rest if "/" in word and not (PROJECT / word).exists()]
        return next(iter([*sorted(options), *missing]), None)
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return " ".join(words[:1]) or "a command without its part"
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    return next((word for word in words if word.startswith("--") and word not in known), None)


@pytest.mark.parametrize(("workflow", "line"), COMMANDS, ids=[f"{name}: {line}" for name, line in COMMANDS])
def test_every_command_of_a_workflow_exists(workflow: str, line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "./evergreen", "a workflow calls the one door, and nothing before it"
    assert unknown_in(words[1:]) is None


@pytest.mark.parametrize(
    "line", ["deplyo", "deploy --envronment staging", "images", "test tests/nowhere", "lint --all"]
)
def test_what_does_not_exist_would_be_found(line: str) -> None:
    assert unknown_in(shlex.split(line)) is not None


def test_a_release_goes_from_data_by_training_and_staging_to_publication() -> None:
    jobs = WORKFLOWS["release.yml"]["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "data": None,
        "train": "data",
        "staging": "train",
        "publish": "staging",
    }
    published = [step.get("run", "") for step in jobs["publish"]["steps"]]
    assert any(line.startswith("./evergreen images sbom") for line in published)
    assert "refs/tags/v" in jobs["publish"]["if"], "a branch publishes nothing"


def test_each_model_of_the_training_matrix_makes_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    train = WORKFLOWS["release.yml"]["jobs"]["train"]
    given = next(step["env"] for step in train["steps"] if "env" in step)
    for model in train["strategy"]["matrix"]["model"]:
        for name, value in given.items():
            monkeypatch.setenv(name, value.replace("${{ matrix.model }}", model))
        assert model in {candidate.model for candidate in load_settings().training.candidates.values()}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_no_more(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    assert not [job for job, made in workflow["jobs"].items() if "permissions" in made]
    assert "pull_request_target" not in workflow[True], "`on`, as YAML 1.1 reads it"
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_have_a_fixed_version_and_no_text_of_others_reaches_a_shell(name: str) -> None:
    for step in steps(WORKFLOWS[name]):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+(\.\d+)*", step["uses"])
        # What a user chose (names of branches and tags) comes by the environment: a shell would run it.
        assert "${{" not in step.get("run", "")
