"""One deployment on this machine: checked, built, started, waited for, tried through its public doors, recorded."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from evergreen.deploy.checks import Machine, check_disk, check_gpu, check_memory, check_port, refuse
from evergreen.deploy.engine import Engine, ServiceState
from evergreen.deploy.images import build, image_name
from evergreen.deploy.secrets import GENERATED, Secrets
from evergreen.deploy.sources import image_tag, revision
from evergreen.errors import DeployError, PlatformError
from evergreen.platform.airflow import CONSUMERS_FIRST
from evergreen.platform.client import AirflowClient, ApiError
from evergreen.settings.tree import PROJECT

IMAGES = ("airflow", "trainer", "serving", "broker")
HEALTHY_SECONDS = 600.0
POLL_SECONDS = 2.0
PORTS = {"production": (8080, 8000, 3000), "staging": (8180, 8100, 3100)}
PORT_NAMES = ("EVERGREEN_AIRFLOW_PORT", "EVERGREEN_SERVING_PORT", "EVERGREEN_GRAFANA_PORT")
DOORS = ("api-server", "serving", "grafana")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a person chose."""

    environment: str = "production"
    gpu: str = "auto"
    monitoring: bool = False


@dataclass
class Stack:
    """The containers of one environment: its Compose project, secrets and history of releases."""

    options: Options
    engine: Engine
    say: Say = lambda _: None
    given: Mapping[str, str] = field(default_factory=dict)  # .env, then the environment

    @staticmethod
    def open(options: Options, say: Say) -> Stack:
        """The stack of an environment, on this machine's engine."""
        return Stack(options, Engine.find(), say, {**read_env(PROJECT / ".env"), **os.environ})

    @property
    def project(self) -> str:
        """Compose's project: prefix of containers, networks and volumes."""
        return "evergreen" if self.options.environment == "production" else f"evergreen-{self.options.environment}"

    @property
    def folder(self) -> Path:
        """What this machine knows about the environment's releases."""
        return PROJECT / "var" / "deploy" / self.options.environment

    @property
    def secrets(self) -> Secrets:
        """The environment's secrets."""
        return Secrets(PROJECT / self.given.get("EVERGREEN_SECRETS", f"secrets/{self.options.environment}"))

    @property
    def ports(self) -> tuple[int, int, int]:
        """Published ports: Airflow's, serving's, and Grafana's where it is wanted."""
        airflow, serving, grafana = (
            int(self.given.get(name) or port)
            for name, port in zip(PORT_NAMES, PORTS[self.options.environment], strict=True)
        )
        return airflow, serving, grafana

    @property
    def address(self) -> str:
        """Address that ports are published on."""
        return self.given.get("EVERGREEN_BIND", "127.0.0.1")

    @property
    def urls(self) -> tuple[str, str]:
        """Public doors as seen from this machine."""
        return f"http://{self._host}:{self.ports[0]}", f"http://{self._host}:{self.ports[1]}"

    @property
    def grafana_url(self) -> str:
        """Grafana as seen from this machine; nothing answers there without `--monitoring`."""
        return f"http://{self._host}:{self.ports[2]}"

    @property
    def client(self) -> AirflowClient:
        """Airflow's REST API, as admin."""
        return AirflowClient(self.urls[0], lambda: ("admin", self.secrets.read("airflow_admin_password")))

    def variables(self, tag: str, gpus: str) -> dict[str, str]:
        """What docker-compose.yaml leaves open."""
        socket = Path(self.given.get("EVERGREEN_DOCKER_SOCKET", "/var/run/docker.sock"))
        return {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_PROFILES": "monitoring" if self.options.monitoring else "",
            "EVERGREEN_BROKER_GPUS": "false" if gpus == "off" else "true",
            "EVERGREEN_DOCKER_GROUP": str(socket.stat().st_gid) if socket.exists() else "999",
            "EVERGREEN_ENVIRONMENT": self.options.environment,
            "EVERGREEN_GPUS": gpus,
            "EVERGREEN_SECRETS": str(self.secrets.folder),
            "EVERGREEN_VERSION": tag,
            **{name: str(port) for name, port in zip(PORT_NAMES, self.ports, strict=True)},
        }

    def check(self) -> str:
        """Refuses in one line before anything starts; gives whether trainers get GPUs: `on`, `auto` or `off`.

        Raises:
            DeployError: what was seen, what is expected, what to do.
        """
        self.engine.version()
        machine = Machine.of(self.engine.info())
        running = {state.service for state in self.engine.states(self.project) if state.status == "running"}
        self._check_volume()
        taken = [
            partial(check_port, self.address, port, setting)
            for port, setting, service in zip(self.ports, PORT_NAMES, DOORS, strict=True)
            if service not in running and (service != "grafana" or self.options.monitoring)
        ]
        refuse(
            [
                partial(check_disk, machine),
                partial(check_memory, machine),
                partial(check_gpu, machine, self.options.gpu),
                *taken,
            ]
        )
        if self.options.gpu == "auto":
            return "auto" if "nvidia" in machine.runtimes else "off"
        return self.options.gpu

    def deploy(self) -> dict[str, Any]:
        """Brings these sources up. Gives the release: tag, seconds of each step, addresses.

        Raises:
            DeployError: refused before anything started, or did not become healthy.
        """
        began = time.monotonic()
        if not self.secrets.folder.exists():
            self.say(f"making secrets in {self.secrets.folder}")
            self.secrets.make()
        self.secrets.check()
        gpus = self.check()
        tag = image_tag()
        release: dict[str, Any] = {
            "tag": tag,
            "gpus": gpus,
            "revision": revision(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": {"check": round(time.monotonic() - began, 1)},
        }
        self._build(tag, release)
        self._start(release, "deploy_platform", began)
        return release

    def rollback(self) -> dict[str, Any]:
        """Brings the release before the newest up again.

        Raises:
            DeployError: there is none, or its images are gone.
        """
        began = time.monotonic()
        releases = self.releases()
        if len(releases) < 2:
            raise DeployError(f"{self.options.environment} has {len(releases)} release(s), going back needs two")
        before = dict(releases[-2])
        missing = [name for name in IMAGES if not self.engine.has_image(image_name(name, before["tag"]))]
        if missing:
            gone = ", ".join(missing)
            raise DeployError(f"images of {before['tag']} are gone ({gone}): check its commit out and deploy that")
        self.secrets.check()
        self.check()
        release = {**before, "at": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": {}}
        self._start(release, "rollback_platform", began)
        return release

    def releases(self) -> list[dict[str, Any]]:
        """Releases that became healthy, oldest first; one that was gone back from is no longer among them."""
        file = self.folder / "releases.json"
        return list(json.loads(file.read_text())) if file.exists() else []

    def states(self) -> list[ServiceState]:
        """State of every service."""
        return self.engine.states(self.project)

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self.address in ("0.0.0.0", "") else self.address

    @property
    def _passwords(self) -> str:
        """Digest of the passwords that the databases were made with."""
        names = [name for name in GENERATED if name.endswith(("_db_password", "postgres_password"))]
        return hashlib.sha256("\n".join(self.secrets.read(name) for name in sorted(names)).encode()).hexdigest()

    def _check_volume(self) -> None:
        """Databases keep the passwords that they were made with: other ones would be refused minutes later."""
        volume, note = f"{self.project}_postgres", self.folder / "passwords.sha256"
        if self.engine.has_volume(volume) and (not note.exists() or note.read_text() != self._passwords):
            raise DeployError(
                f"the databases in volume {volume} were made with other passwords than those in {self.secrets.folder}: "
                f"put those back, or docker volume rm {volume}, which loses what is in it"
            )

    def _build(self, tag: str, release: dict[str, Any]) -> None:
        for target in IMAGES:
            image = image_name(target, tag)
            if not self.engine.has_image(image):
                self.say(f"building {image}")
                release["seconds"][f"build {target}"] = build(target, version=tag, docker=self.engine.docker).seconds

    def _start(self, release: dict[str, Any], operation: str, began: float) -> None:
        started = time.monotonic()
        variables = self.variables(release["tag"], release["gpus"])
        self._write_env(variables)
        (self.folder / "passwords.sha256").write_text(self._passwords)
        self.say("starting the services")
        with ThreadPoolExecutor(1) as pool:  # Compose itself waits for what others depend on, and says nothing
            starting = pool.submit(self.engine.run_compose, ["up", "-d", "--remove-orphans"], variables)
            self._wait(started, starting)
        release["seconds"]["start"] = round(time.monotonic() - started, 1)
        self.say("trying the public doors")
        self._smoke_test()
        self._unpause()
        release["seconds"]["total"] = round(time.monotonic() - began, 1)
        self._note(release, operation)
        self._record(release, operation, variables)

    def _wait(self, started: float, starting: Future[str]) -> None:
        told: set[str] = set()
        while True:
            states = self.states()
            told &= {state.service for state in states if state.ready}  # the release before may be up still
            for state in states:
                if state.ready and state.service not in told:
                    told.add(state.service)
                    self.say(f"{state.service} {state.text} after {time.monotonic() - started:.0f} s")
            waiting = [state for state in states if not state.ready]
            if starting.done():
                starting.result()
                if not waiting:
                    return
            if time.monotonic() - started > HEALTHY_SECONDS:
                seen = ", ".join(f"{state.service} {state.text}" for state in waiting)
                raise DeployError(
                    f"not healthy after {HEALTHY_SECONDS:.0f} s: {seen}; docker logs {self.project}-... tells why"
                )
            time.sleep(POLL_SECONDS)

    def _smoke_test(self) -> None:
        """As a user would: a wrong password is refused, the right one sees all DAGs, serving answers."""
        airflow, serving = self.urls
        try:
            AirflowClient(airflow, lambda: ("admin", "wrong")).dag_ids()
        except ApiError as error:
            if error.status != 401:
                raise
        else:
            raise DeployError(f"Airflow at {airflow} let a wrong password in")
        deadline = time.monotonic() + 120
        while missing := set(CONSUMERS_FIRST) - self.client.dag_ids():
            if errors := self.client.import_errors():
                raise DeployError(f"DAG files cannot be imported: {', '.join(sorted(errors))}")
            if time.monotonic() > deadline:
                raise DeployError(f"Airflow does not know the DAGs {', '.join(sorted(missing))}")
            time.sleep(POLL_SECONDS)
        sick = {name: state for name, state in self.client.health().items() if state != "healthy"}
        if sick:
            raise DeployError(f"Airflow says that parts are not healthy: {sick}")
        try:
            with build_opener(ProxyHandler({})).open(f"{serving}/health", timeout=10) as answer:
                json.load(answer)
        except (HTTPError, URLError, OSError, ValueError) as error:
            raise DeployError(f"serving does not answer at {serving}/health: {error}") from None

    def _unpause(self) -> None:
        """Lets each DAG run once in an environment's life: one that somebody paused later stays paused."""
        marker = self.folder / "unpaused.json"
        done = set(json.loads(marker.read_text())) if marker.exists() else set()
        for dag_id in (name for name in CONSUMERS_FIRST if name not in done):
            self.client.set_paused(dag_id, paused=False)
        marker.write_text(json.dumps(sorted({*done, *CONSUMERS_FIRST})))

    def _note(self, release: dict[str, Any], operation: str) -> None:
        releases = self.releases()
        if operation == "rollback_platform":
            releases = releases[:-2]
        elif releases and releases[-1]["tag"] == release["tag"]:
            releases = releases[:-1]
        draft = self.folder / ".releases.json"
        draft.write_text(json.dumps([*releases, release], indent=1))
        draft.replace(self.folder / "releases.json")

    def _record(self, release: dict[str, Any], operation: str, variables: Mapping[str, str]) -> None:
        entry = {
            "operation": operation,
            "environment": self.options.environment,
            "user": self.given.get("SUDO_USER") or self.given.get("USER") or "",
            "command": f"evergreen deploy --environment {self.options.environment}",
            "resources_affected": [f"image:{image_name(name, release['tag'])}" for name in IMAGES],
            "rollback_available": len(self.releases()) > 1,
            "duration_seconds": release["seconds"]["total"],
            "metrics": {"revision": release["revision"], "seconds": release["seconds"]},
        }
        command = ["exec", "-T", "broker", "python", "-m", "evergreen.deploy.record"]
        try:
            self.engine.run_compose(command, variables, given=json.dumps(entry))
        except PlatformError as error:
            raise DeployError(f"{release['tag']} runs, and the ledger could not be told: {error}") from None

    def _write_env(self, variables: Mapping[str, str]) -> None:
        """For people: `docker compose --env-file var/deploy/ENVIRONMENT/compose.env ps`. It holds no secret."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}\n" for name, value in sorted(variables.items())]
        (self.folder / "compose.env").write_text("".join(lines))


def read_env(file: Path) -> dict[str, str]:
    """Lines `NAME=value` of a file as Compose reads it; none where there is no file."""
    if not file.exists():
        return {}
    lines = (line.strip() for line in file.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#") and "=" in line)
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
