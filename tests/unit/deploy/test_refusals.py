"""What a machine or its secrets lack is one line from `--check` and from a start, before anything starts."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evergreen.cli import app as commands
from evergreen.deploy import stack as module
from evergreen.deploy.checks import GIB
from evergreen.deploy.engine import Engine
from evergreen.deploy.stack import Options, Stack
from tests.unit.deploy.conftest import COMPOSE, ENGINE, FakeEngine

Fault = Callable[[Any, Stack, pytest.MonkeyPatch], None]


def weak_secret(engine: FakeEngine, stack: Stack, _: pytest.MonkeyPatch) -> None:
    (stack.secrets.folder / "postgres_password").unlink()
    (stack.secrets.folder / "postgres_password").write_text("postgres")


def open_secrets(engine: FakeEngine, stack: Stack, _: pytest.MonkeyPatch) -> None:
    stack.secrets.folder.chmod(0o755)


def other_passwords(engine: FakeEngine, stack: Stack, _: pytest.MonkeyPatch) -> None:
    engine.volumes.add("evergreen_postgres")
    (stack.folder / "passwords.sha256").write_text("of others")


def taken_port(engine: FakeEngine, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(engine, "holder", holder, raising=False)
    monkeypatch.setenv("EVERGREEN_AIRFLOW_PORT", str(holder.getsockname()[1]))


def little_disk(engine: FakeEngine, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 3 * GIB}))


def little_memory(engine: FakeEngine, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "info", lambda: ENGINE | {"MemTotal": 4 * GIB})


def old_engine(engine: FakeEngine, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = stack.folder / "docker"
    docker.write_text("#!/bin/sh\necho 19.03.5\n")
    docker.chmod(0o755)
    monkeypatch.setattr(engine, "version", Engine(str(docker), ()).version)


FAULTS: list[tuple[Fault, list[str], str]] = [
    (weak_secret, [], "postgres_password is too easy to guess, must have 12 characters or more"),
    (open_secrets, [], "is open to others, must be its owner's alone: chmod 700"),
    (other_passwords, [], "the databases in volume evergreen_postgres were made with other passwords than those in"),
    (taken_port, [], "cannot be taken (Address already in use): stop what has it, or set EVERGREEN_AIRFLOW_PORT"),
    (little_disk, [], "3.0 GiB are free on the disk of /, must be 15: docker system prune helps"),
    (little_memory, [], "the engine has 4.0 GiB of memory, must be 12: give it more"),
    (old_engine, [], "the Docker engine is 19.03.5, must be 20.10 or newer"),
    (lambda *_: None, ["--gpu", "on"], "--gpu on, and the engine has no NVIDIA runtime (it has: runc)"),
]


@pytest.fixture
def ready(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A machine on which everything is as it must be, found by the command."""
    (tmp_path / "docker-compose.yaml").write_text(COMPOSE)
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    for name in module.PORT_NAMES:
        with socket.create_server(("127.0.0.1", 0)) as free:
            monkeypatch.setenv(name, str(free.getsockname()[1]))
    monkeypatch.setattr(module.Engine, "find", lambda: engine)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100 * GIB}))
    stack = Stack.open(Options(), print)
    stack.secrets.make()
    stack.folder.mkdir(parents=True)
    yield replace(stack)
    if hasattr(engine, "holder"):
        engine.holder.close()


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["evergreen", "deploy", *arguments])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("how", [["--check"], []], ids=["check", "start"])
@pytest.mark.parametrize(("fault", "arguments", "line"), FAULTS, ids=lambda one: getattr(one, "__name__", ""))
def test_one_line_before_anything_starts(
    ready: Stack,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
    arguments: list[str],
    line: str,
    how: list[str],
) -> None:
    fault(engine, ready, monkeypatch)
    assert run([*how, *arguments], monkeypatch) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("evergreen: ")
    assert line in said
    assert engine.done == []
    assert engine.images == set(), "nothing was built"


def test_a_machine_that_has_everything_could_start(
    ready: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--check"], monkeypatch) == 0
    assert "production could start here (compose)" in capsys.readouterr().out
    shutil.rmtree(ready.secrets.folder)
    assert run(["--check"], monkeypatch) == 0, "a start makes its secrets"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--rollback", "--check"], "--rollback and --check were given together: expected one of them"),
        (["--databases"], "--databases goes with --rollback"),
        (["code"], "a KIND with --drill"),
    ],
)
def test_options_that_do_not_go_together(
    ready: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    assert run(arguments, monkeypatch) == 1
    assert line in capsys.readouterr().err
