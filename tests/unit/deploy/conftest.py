"""An environment on an engine that only says it did what it was told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evergreen.deploy import stack as module
from evergreen.deploy.engine import ServiceState
from evergreen.deploy.releases import Release
from evergreen.deploy.snapshot import Parts
from evergreen.deploy.stack import Options, Stack
from evergreen.errors import DeployError

ENGINE = {"MemTotal": 32 * 2**30, "DockerRootDir": "/", "Runtimes": {"runc": {}}}
COMPOSE = (
    "services:\n  serving:\n    image: evergreen/serving:${EVERGREEN_VERSION:-0}\n"
    "    mem_limit: ${EVERGREEN_SERVING_MEMORY:-1g}\n    ports: ['${EVERGREEN_SERVING_PORT:-8000}:8000']\n"
)


@dataclass
class FakeEngine:
    """Says what a test wants, and remembers what it was asked to do."""

    images: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    started: list[str] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)  # of each start
    files: list[Path | None] = field(default_factory=list)  # Compose files of each start
    entries: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)  # in their order: what would be felt
    schemas: dict[str, str] = field(default_factory=lambda: {"airflow": "a1", "mlflow": "m1"})
    models: int = 1
    home_broken: str = ""
    restore_broken: str = ""
    unhealthy: str = ""
    docker: str = "docker"

    def version(self) -> str:
        return "27.0.0"

    def info(self) -> dict[str, Any]:
        return ENGINE

    def has_image(self, name: str) -> bool:
        return name in self.images

    def has_volume(self, name: str) -> bool:
        return name in self.volumes

    def container(self, project: str, service: str) -> str:
        return f"{project}_{service}_1" if f"{project}_postgres" in self.volumes else ""

    def derive(self, name: str, dockerfile: str) -> None:
        assert dockerfile.startswith(f"FROM {name.split('-drill-')[0]}\n")
        self.images.add(name)

    def remove_image(self, name: str) -> None:
        self.images.discard(name)

    def run_compose(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, given: str = "", file: Path | None = None
    ) -> str:
        self.done.append(arguments[0])
        if arguments[0] == "up":
            self.started.append(environment["EVERGREEN_VERSION"])
            self.environments.append(dict(environment))
            self.files.append(file)
            self.volumes.add(f"{environment['COMPOSE_PROJECT_NAME']}_postgres")
            if environment["EVERGREEN_VERSION"] == self.unhealthy:
                raise DeployError("compose up failed: unhealthy")
        elif arguments[0] == "run":
            if self.home_broken:
                raise DeployError(self.home_broken)
            return json.dumps({"backup": "/var/lib/evergreen/backups/a/t", "digest": "d", "bytes": 7}) + "\n"
        elif "evergreen.deploy.record" in arguments:
            self.entries.append(given)
        return ""

    def run_in(
        self, container: str, command: Sequence[str], *, user: str = "", given: str | Path = "", to: Path | None = None
    ) -> str:
        assert user == "postgres"
        program, database = command[3], command[-1]
        if program == "pg_dump":
            self.done.append(f"dump {database}")
            assert to is not None
            to.touch(mode=0o600)
            to.write_text(f"{database} {self.schemas.get(database, '')}")
        elif program == "pg_restore":
            self.done.append(f"restore {database}")
            if self.restore_broken:
                raise DeployError(self.restore_broken)
            assert isinstance(given, Path)
            name, _, schema = given.read_text().partition(" ")
            self.schemas[name] = schema
        elif "information_schema" in str(given):
            return "alembic_version\n" if self.schemas.get(database) else ""
        elif "version_num FROM" in str(given):
            return self.schemas[database] + "\n"
        elif "to_regclass" in str(given):
            return "1\n"
        elif "count(*) FROM model_versions" in str(given):
            return f"{self.models}\n"
        elif "RENAME" in str(given):
            self.done.append("swap")
        elif "UPDATE alembic_version" in str(given):
            self.schemas["airflow"] = "evergreen_drill"
        return ""

    def states(self, project: str) -> list[ServiceState]:
        return [ServiceState("worker", "running", "healthy", 0), ServiceState("init", "exited", "", 0)]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def stack(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    (tmp_path / "docker-compose.yaml").write_text(COMPOSE)
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


class Deployer:
    """Deploys sources of which only the tag is known."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, stack: Stack, tag: str, parts: Parts = Parts.ALL) -> Release:
        self._monkeypatch.setattr(module, "image_tag", lambda: tag)
        return stack.deploy(parts)


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Deployer:
    return Deployer(monkeypatch)
