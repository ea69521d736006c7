"""The Docker command line and Compose: found, asked and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evergreen.deploy.images import find_docker
from evergreen.errors import DeployError
from evergreen.settings.tree import PROJECT

OLDEST_ENGINE = (20, 10)
PROJECT_LABEL, SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"


@dataclass(frozen=True)
class ServiceState:
    """A container of a service as the engine sees it."""

    service: str
    status: str  # running, exited, restarting, ...
    health: str  # healthy, unhealthy, starting, or empty where nothing is checked
    exit_code: int

    @property
    def ready(self) -> bool:
        """Healthy, or ended well."""
        if self.status == "exited":
            return self.exit_code == 0
        return self.status == "running" and self.health in ("healthy", "")

    @property
    def text(self) -> str:
        """As people read it."""
        return self.health or f"{self.status} ({self.exit_code})"


@dataclass(frozen=True)
class Engine:
    """A Docker client that can build, and Compose."""

    docker: str
    compose: tuple[str, ...]

    @staticmethod
    def find() -> Engine:
        """A client that can build, and Compose.

        Raises:
            DeployError: there is none, with what is missing.
        """
        docker = find_docker()
        if _works(docker, "compose", "version"):
            return Engine(docker, (docker, "compose"))
        if standalone := shutil.which("docker-compose"):
            return Engine(docker, (standalone,))
        raise DeployError(f"{docker} has no Compose: install docker-compose-plugin (or docker-compose 1.29)")

    def version(self) -> str:
        """Version of the engine.

        Raises:
            DeployError: no engine answers, or it is too old.
        """
        done = self._ask("version", "--format", "{{.Server.Version}}")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            raise DeployError(f"no Docker engine answers: {reason}")
        version = done.stdout.strip()
        parts = tuple(int(part) for part in version.split("+")[0].split("-")[0].split(".")[:2] if part.isdigit())
        if parts < OLDEST_ENGINE:
            oldest = ".".join(str(part) for part in OLDEST_ENGINE)
            raise DeployError(f"the Docker engine is {version}, must be {oldest} or newer")
        return version

    def info(self) -> dict[str, Any]:
        """What the engine says about itself: `MemTotal`, `NCPU`, `DockerRootDir`, `Runtimes`, ..."""
        done = self._ask("info", "--format", "{{json .}}")
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def has_image(self, name: str) -> bool:
        """Is an image there?"""
        return self._ask("image", "inspect", name).returncode == 0

    def has_volume(self, name: str) -> bool:
        """Is a volume there?"""
        return self._ask("volume", "inspect", name).returncode == 0

    def run_compose(self, arguments: Sequence[str], environment: Mapping[str, str], *, given: str = "") -> str:
        """Runs Compose in the project's folder and gives its output.

        Raises:
            DeployError: with the last line of its output.
        """
        done = subprocess.run(
            [*self.compose, *arguments], cwd=PROJECT, env={**os.environ, **environment}, input=given,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise DeployError(f"compose {arguments[0]} failed: {(lines or ['no output'])[-1]}")
        return done.stdout

    def states(self, project: str) -> list[ServiceState]:
        """State of every container of a project, by service."""
        listed = self._ask("ps", "--all", "--quiet", "--filter", f"label={PROJECT_LABEL}={project}").stdout.split()
        if not listed:
            return []
        found = json.loads(self._ask("inspect", *listed).stdout)
        return sorted(_states(found), key=lambda state: state.service)

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.docker, *arguments], capture_output=True, text=True, timeout=60, check=False)


def _states(containers: list[dict[str, Any]]) -> Iterator[ServiceState]:
    for container in containers:
        state = container["State"]
        yield ServiceState(
            container["Config"]["Labels"].get(SERVICE_LABEL, ""),
            state["Status"],
            state.get("Health", {}).get("Status", ""),
            state["ExitCode"],
        )


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
