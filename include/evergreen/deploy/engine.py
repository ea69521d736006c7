"""The Docker command line and Compose: found, asked and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergreen.deploy.images import find_docker
from evergreen.errors import DeployError
from evergreen.settings.tree import PROJECT

OLDEST_ENGINE = (20, 10)
PROJECT_LABEL, SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"
LASTING = "com.docker.compose.oneoff=False"  # `compose run` labels its containers True


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

    def run_compose(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, given: str = "", file: Path | None = None
    ) -> str:
        """Runs Compose in the project's folder and gives its output.

        Args:
            arguments: what Compose is told.
            environment: what its file leaves open.
            given: its standard input.
            file: another file than the project's, whose relative paths are the project's all the same.

        Raises:
            DeployError: with the last line of its output.
        """
        which = ["-f", str(file), "--project-directory", str(PROJECT)] if file else []
        done = subprocess.run(
            [*self.compose, *which, *arguments], cwd=PROJECT, env={**os.environ, **environment}, input=given,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise DeployError(f"compose {arguments[0]} failed: {_last_line(done.stdout + done.stderr)}")
        return done.stdout

    def run_in(
        self,
        container: str,
        command: Sequence[str],
        *,
        user: str = "",
        given: str | Path = "",
        to: Path | None = None,
    ) -> str:
        """Runs a command in a container and gives its output.

        Args:
            container: its id or name.
            command: what is run.
            user: as whom, where not as the container's own user.
            given: its standard input, as a text or from a file.
            to: a file that gets the output instead, for its owner alone; it is made.

        Raises:
            DeployError: with the last line of what it said.
        """
        with ExitStack() as open_files:
            source: Any = subprocess.PIPE
            if isinstance(given, Path):
                source = open_files.enter_context(given.open("rb"))
            target: Any = subprocess.PIPE
            if to is not None:
                target = open_files.enter_context(
                    os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
                )
            process = subprocess.Popen(
                [self.docker, "exec", "-i", *(["--user", user] if user else []), container, *command],
                stdin=source, stdout=target, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, said = process.communicate(given.encode() if isinstance(given, str) else None)
        if process.returncode:
            raise DeployError(f"{command[0]} in {container[:12]} failed: {_last_line(said.decode(errors='replace'))}")
        return out.decode() if out else ""

    def derive(self, name: str, dockerfile: str) -> None:
        """Builds an image from a Dockerfile alone, without any of the project's files.

        Raises:
            DeployError: with the last line of the build's output.
        """
        done = subprocess.run(
            [self.docker, "build", "--tag", name, "-"], env={**os.environ, "DOCKER_BUILDKIT": "1"}, input=dockerfile,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise DeployError(f"{name} was not built: {_last_line(done.stdout + done.stderr)}")

    def remove_image(self, name: str) -> None:
        """Removes an image's name, and the image where it has no other; one that is not there is no error."""
        self._ask("image", "rm", name)

    def container(self, project: str, service: str) -> str:
        """Id of a service's running container, empty where none runs."""
        labels = (f"{PROJECT_LABEL}={project}", f"{SERVICE_LABEL}={service}", LASTING)
        return next(iter(self._listed(*labels)), "")

    def containers(self, *labels: str) -> list[dict[str, Any]]:
        """Running containers that have all these labels (`name=value`), as `docker inspect` tells them."""
        listed = self._listed(*labels)
        return list(json.loads(self._ask("inspect", *listed).stdout)) if listed else []

    def processes(self, container: str) -> list[str]:
        """User of each process of a container, as this machine calls it."""
        return self._ask("top", container, "-eo", "pid,user").stdout.split()[3::2]

    def states(self, project: str) -> list[ServiceState]:
        """State of every container of a project, by service; those of `compose run` are none."""
        filters = [f"--filter=label={label}" for label in (f"{PROJECT_LABEL}={project}", LASTING)]
        listed = self._ask("ps", "--all", "--quiet", *filters).stdout.split()
        if not listed:
            return []
        found = json.loads(self._ask("inspect", *listed).stdout)
        return sorted(_states(found), key=lambda state: state.service)

    def _listed(self, *labels: str) -> list[str]:
        return self._ask("ps", "--quiet", *(f"--filter=label={label}" for label in labels)).stdout.split()

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


def _last_line(output: str) -> str:
    return ([line.strip() for line in output.splitlines() if line.strip()] or ["no output"])[-1]


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
