"""Releases are noted and gone back from; what does not fit is refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evergreen.deploy import stack as module
from evergreen.deploy.engine import ServiceState
from evergreen.deploy.sources import image_tag
from evergreen.deploy.stack import Options, Stack, read_env
from evergreen.errors import DeployError

ENGINE = {"MemTotal": 32 * 2**30, "DockerRootDir": "/", "Runtimes": {"runc": {}}}


@dataclass
class FakeEngine:
    """Says what a test wants, and remembers what it was asked to do."""

    images: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    started: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    docker: str = "docker"

    def version(self) -> str:
        return "27.0.0"

    def info(self) -> dict[str, Any]:
        return ENGINE

    def has_image(self, name: str) -> bool:
        return name in self.images

    def has_volume(self, name: str) -> bool:
        return name in self.volumes

    def run_compose(self, arguments: Sequence[str], environment: Mapping[str, str], *, given: str = "") -> str:
        if arguments[0] == "up":
            self.started.append(environment["EVERGREEN_VERSION"])
            self.volumes.add("evergreen_postgres")
        else:
            self.entries.append(given)
        return ""

    def states(self, project: str) -> list[ServiceState]:
        return [ServiceState("worker", "running", "healthy", 0), ServiceState("init", "exited", "", 0)]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    engine = FakeEngine()
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(module, "check_disk", lambda machine: None)
    monkeypatch.setattr(module, "check_port", lambda *_: None)
    monkeypatch.setattr(module, "revision", lambda: "abc")
    monkeypatch.setattr(Stack, "_smoke_test", lambda self: None)
    monkeypatch.setattr(Stack, "_unpause", lambda self: None)

    def build(target: str, *, version: str, docker: str) -> Any:
        engine.images.add(f"evergreen/{target}:{version}")
        return type("Built", (), {"seconds": 1.0})

    monkeypatch.setattr(module, "build", build)
    return Stack(Options(), engine)  # type: ignore[arg-type]


def release(stack: Stack, tag: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(module, "image_tag", lambda: tag)
    return stack.deploy()


def test_going_back_starts_the_release_before(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for tag in ("1", "2", "2", "3"):
        release(stack, tag, monkeypatch)
    assert [entry["tag"] for entry in stack.releases()] == ["1", "2", "3"]
    assert stack.rollback()["tag"] == "2"
    assert [entry["tag"] for entry in stack.releases()] == ["1", "2"]
    assert stack.rollback()["tag"] == "1"
    engine: Any = stack.engine
    assert engine.started == ["1", "2", "2", "3", "2", "1"]
    assert sum("rollback_platform" in entry for entry in engine.entries) == 2
    with pytest.raises(DeployError, match=r"1 release\(s\), going back needs two"):
        stack.rollback()


def test_without_its_images_there_is_no_way_back(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for tag in ("1", "2"):
        release(stack, tag, monkeypatch)
    engine: Any = stack.engine
    engine.images.remove("evergreen/broker:1")
    with pytest.raises(DeployError, match=r"images of 1 are gone \(broker\)"):
        stack.rollback()
    assert engine.started == ["1", "2"]


def test_what_is_built_is_not_built_again(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(name.startswith("build ") for name in release(stack, "1", monkeypatch)["seconds"])
    assert not any(name.startswith("build ") for name in release(stack, "1", monkeypatch)["seconds"])


def test_passwords_that_the_databases_were_not_made_with_are_refused(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(stack, "1", monkeypatch)
    (stack.secrets.folder / "ledger_db_password").unlink()
    stack.secrets.make()
    with pytest.raises(DeployError, match="evergreen_postgres were made with other passwords"):
        release(stack, "2", monkeypatch)
    engine: Any = stack.engine
    assert engine.started == ["1"]


def test_a_missing_gpu_is_refused_when_demanded(stack: Stack) -> None:
    stack.secrets.make()
    demanding = Stack(Options(gpu="on"), stack.engine)
    with pytest.raises(DeployError, match="no NVIDIA runtime"):
        demanding.check()
    assert stack.check() == "off"


def test_grafanas_port_must_be_free_where_it_is_wanted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.secrets.make()

    def busy(address: str, port: int, setting: str) -> str | None:
        return f"{setting} {port}" if port == 3000 else None

    monkeypatch.setattr(module, "check_port", busy)
    stack.check()
    watching = Stack(Options(monitoring=True), stack.engine)
    with pytest.raises(DeployError, match="EVERGREEN_GRAFANA_PORT 3000"):
        watching.check()
    assert watching.variables("1", "off")["COMPOSE_PROFILES"] == "monitoring"


def test_environments_share_nothing(stack: Stack) -> None:
    staging = Stack(Options("staging"), stack.engine)
    assert staging.project != stack.project
    assert staging.secrets.folder != stack.secrets.folder
    assert set(staging.ports).isdisjoint(stack.ports)


def test_the_variables_hold_no_secret(stack: Stack) -> None:
    stack.secrets.make()
    text = str(stack.variables("1", "off"))
    assert not any(stack.secrets.read(file.name) in text for file in stack.secrets.folder.iterdir())


def test_a_file_of_variables_is_read_as_compose_does(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# a comment\nA=1\n\nB='two words'\nC=\nnonsense\n")
    assert read_env(file) == {"A": "1", "B": "two words", "C": ""}
    assert read_env(tmp_path / "none") == {}


def test_the_tag_follows_the_sources() -> None:
    assert image_tag() == image_tag()
    assert image_tag() != image_tag("cpu")
