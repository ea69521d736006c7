"""One deployment on this machine: checked, built, started, waited for, tried through its public doors, recorded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from evergreen.deploy import snapshot
from evergreen.deploy.checks import Machine, check_disk, check_gpu, check_memory, check_port, refuse
from evergreen.deploy.databases import Databases
from evergreen.deploy.doors import smoke_test
from evergreen.deploy.engine import LASTING, PROJECT_LABEL, Engine, ServiceState
from evergreen.deploy.images import build, image_name
from evergreen.deploy.releases import History, Release
from evergreen.deploy.secrets import GENERATED, Secrets
from evergreen.deploy.snapshot import Parts
from evergreen.deploy.sources import image_tag
from evergreen.errors import DeployError, PlatformError
from evergreen.platform.airflow import CONSUMERS_FIRST
from evergreen.platform.client import AirflowClient
from evergreen.settings.tree import PROJECT
from evergreen.training.provenance import revision

IMAGES = ("airflow", "trainer", "serving", "broker")
HEALTHY_SECONDS = 600.0
POLL_SECONDS = 2.0
PORTS = {"production": (8080, 8000, 3000), "staging": (8180, 8100, 3100)}
PORT_NAMES = ("EVERGREEN_AIRFLOW_PORT", "EVERGREEN_SERVING_PORT", "EVERGREEN_GRAFANA_PORT")
DOORS = ("api-server", "serving", "grafana")
COMPOSE_FILE, PASSWORDS = "docker-compose.yaml", "passwords.sha256"
COMPUTED = frozenset(
    {
        "COMPOSE_PROJECT_NAME", "EVERGREEN_BROKER_GPUS", "EVERGREEN_DOCKER_GROUP", "EVERGREEN_ENVIRONMENT",
        "EVERGREEN_GPUS", "EVERGREEN_SECRETS", "EVERGREEN_VERSION",
    }
)  # fmt: skip
WITHOUT = "--snapshot databases leaves the home out, --snapshot none takes none"

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
    compose_file: Path | None = None  # None: the project's

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

    @property
    def snapshots(self) -> Path:
        """Where its snapshots lie."""
        return self.folder / "snapshots"

    @property
    def history(self) -> History:
        """Its releases."""
        return History(self.folder)

    @property
    def settings(self) -> dict[str, str]:
        """What people chose of all that its Compose file leaves open."""
        return {name: self.given[name] for name in sorted(self._left_open) if self.given.get(name)}

    def under(self, release: Release) -> Stack:
        """The environment as a release was started: its settings and Compose file, whatever .env says today."""
        if release.settings is None:
            return self
        others = {name: value for name, value in self.given.items() if name not in self._left_open}
        options = replace(self.options, monitoring=release.monitoring)
        file = self.history.compose_file(release)
        return replace(self, options=options, given={**others, **release.settings}, compose_file=file)

    def now(self) -> Stack:
        """The environment as the newest healthy release was started."""
        return self.under(self._newest())

    def in_worker(self, command: Sequence[str]) -> str:
        """Runs a command in a worker that runs, and gives its output.

        Raises:
            DeployError: with the last line of its output.
        """
        return self.now().compose(self._newest(), ["exec", "-T", "worker", *command])

    def _newest(self) -> Release:
        releases = self.history.all()
        if not releases:
            raise DeployError(f"nothing was deployed to {self.options.environment} from here: ./evergreen deploy first")
        return releases[-1]

    def variables(self, tag: str, gpus: str) -> dict[str, str]:
        """What its Compose file leaves open; empty, as if it were not set, where nobody chose anything."""
        socket = Path(self.given.get("EVERGREEN_DOCKER_SOCKET") or "/var/run/docker.sock")
        return {
            **dict.fromkeys(self._left_open, ""),
            **self.settings,
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

    def compose(self, release: Release, arguments: Sequence[str], *, given: str = "") -> str:
        """Runs Compose as a release is started; gives its output.

        Raises:
            DeployError: with the last line of its output.
        """
        variables = self.variables(release.tag, release.gpus)
        return self.engine.run_compose(arguments, variables, given=given, file=self.compose_file)

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

    def deploy(self, parts: Parts = Parts.ALL) -> Release:
        """Brings these sources up, with what .env says today.

        Args:
            parts: what is put into the snapshot that is taken before anything is changed.

        Raises:
            DeployError: refused before anything started, or did not become healthy.
        """
        began = time.monotonic()
        if not self.secrets.folder.exists():
            self.say(f"making secrets in {self.secrets.folder}")
            self.secrets.make()
        self.secrets.check()
        gpus = self.check()
        seconds = {"check": round(time.monotonic() - began, 1)}
        compose = self.history.keep_compose(PROJECT / COMPOSE_FILE)
        options, settings = self.options, self.settings
        release = Release(image_tag(), revision(), gpus, _now(), options.monitoring, settings, compose, "", seconds)
        self._build(release)
        return self.put(release, parts)

    def put(self, release: Release, parts: Parts = Parts.ALL) -> Release:
        """Takes a snapshot, then starts a release whose images are there.

        Raises:
            DeployError: the snapshot could not be taken, and nothing was changed; or it did not become healthy.
        """
        began = time.monotonic() - sum(release.seconds.values())
        before = time.monotonic()
        taken = self.snapshot(parts)
        release.seconds["snapshot"] = round(time.monotonic() - before, 1)
        release = self.history.begin(replace(release, snapshot=taken))
        then = self.under(release)
        then.start(release)
        release.seconds["total"] = round(time.monotonic() - began, 1)
        self.history.add(release)
        then.note(release, "deploy_platform")
        return release

    def snapshot(self, parts: Parts = Parts.ALL) -> str:
        """Takes a snapshot of what runs and gives its name; empty where there is nothing yet, or none is wanted.

        Raises:
            DeployError: it could not be taken. Nothing was changed.
        """
        releases = self.history.all()
        if parts is Parts.NONE or not releases or not self.engine.has_volume(f"{self.project}_postgres"):
            why = "none is wanted" if parts is Parts.NONE else "nothing was deployed before"
            self.say(f"no snapshot: {why}")
            return ""
        running = releases[-1]  # healthy: one that was begun since may not be able to say anything
        now = self.under(running)
        self.say("taking a snapshot")
        try:
            now.wake(running)
            name = snapshot.make(
                self.snapshots,
                now.databases,
                environment=self.options.environment,
                release=(self.history.begun() or running).tag,
                made_at=_now(),
                configuration=now._configuration(),
                back_up_home=partial(now._back_up_home, running) if parts is Parts.ALL else None,
            )
        except PlatformError as error:
            raise DeployError(f"no snapshot could be taken, and nothing was changed: {error} ({WITHOUT})") from None
        kept = int(self.given.get("EVERGREEN_SNAPSHOTS_KEPT") or snapshot.KEPT)
        snapshot.prune(self.snapshots, kept, self.history.needed_snapshots())
        self.say(f"snapshot {self.snapshots / name}")
        return name

    @property
    def databases(self) -> Databases:
        """Its databases.

        Raises:
            DeployError: PostgreSQL does not run.
        """
        container = self.engine.container(self.project, "postgres")
        if not container:
            raise DeployError(f"PostgreSQL of {self.project} does not run: ./evergreen deploy starts it")
        return Databases(self.engine, container)

    def wake(self, release: Release) -> None:
        """Starts what a snapshot asks, where it was stopped: the databases, and MLflow, which knows all models."""
        if not all(self.engine.container(self.project, name) for name in ("postgres", "mlflow")):
            self.compose(release, ["up", "-d", "mlflow"])
            deadline = time.monotonic() + HEALTHY_SECONDS
            while waiting := [one for one in self.states() if one.service in ("postgres", "mlflow") and not one.ready]:
                if time.monotonic() > deadline:
                    raise DeployError(f"{waiting[0].service} is {waiting[0].text} after {HEALTHY_SECONDS:.0f} s")
                time.sleep(POLL_SECONDS)

    def states(self) -> list[ServiceState]:
        """State of every service."""
        return self.engine.states(self.project)

    def own_containers(self) -> list[dict[str, Any]]:
        """Running containers of images of ours, as the engine tells them."""
        found = self.engine.containers(f"{PROJECT_LABEL}={self.project}", LASTING)
        return [one for one in found if str(one["Config"]["Image"]).startswith("evergreen/")]

    def record(self, release: Release, entry: Mapping[str, Any]) -> None:
        """Writes an entry to the ledger, by the broker, which reaches its database.

        Raises:
            DeployError: the ledger could not be told.
        """
        told = {
            "environment": self.options.environment,
            "user": self.given.get("SUDO_USER") or self.given.get("USER") or "",
            **entry,
        }
        command = ["exec", "-T", "broker", "python", "-m", "evergreen.deploy.record"]
        try:
            self.compose(release, command, given=json.dumps(told))
        except PlatformError as error:
            raise DeployError(f"{release.tag} runs, and the ledger could not be told: {error}") from None

    @property
    def _left_open(self) -> frozenset[str]:
        """Names that its Compose file leaves to people; what is computed from the machine is none of them."""
        text = (self.compose_file or PROJECT / COMPOSE_FILE).read_text()
        return frozenset(re.findall(r"\$\{(\w+)", text)) - COMPUTED

    def _configuration(self) -> list[Path]:
        """Files that say how what runs was started."""
        known = [self.folder / "compose.env", self.folder / "releases.json", self.folder / PASSWORDS]
        found = [*known, PROJECT / ".env", self.compose_file or PROJECT / COMPOSE_FILE]
        return [file for file in found if file.is_file()]

    def _back_up_home(self, release: Release) -> dict[str, Any]:
        """The command `backup`, as a worker of the release would run it."""
        command = ["run", "--rm", "--no-deps", "-T", "worker", "python", "-m", "evergreen.cli", "backup", "--json"]
        try:
            told = json.loads(self.compose(release, command).strip().splitlines()[-1])
            return {name: told[name] for name in ("backup", "digest", "bytes")}
        except (IndexError, KeyError, TypeError, ValueError):
            raise DeployError("the backup of the home did not say where it is") from None

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
        volume, note = f"{self.project}_postgres", self.folder / PASSWORDS
        if self.engine.has_volume(volume) and (not note.exists() or note.read_text() != self._passwords):
            raise DeployError(
                f"the databases in volume {volume} were made with other passwords than those in {self.secrets.folder}: "
                f"put those back, or docker volume rm {volume}, which loses what is in it"
            )

    def _build(self, release: Release) -> None:
        for target in IMAGES:
            image = image_name(target, release.tag)
            if not self.engine.has_image(image):
                self.say(f"building {image}")
                built = build(target, version=release.tag, docker=self.engine.docker)
                release.seconds[f"build {target}"] = built.seconds

    def start(self, release: Release) -> None:
        """Starts a release, waits until it is healthy and tries its doors.

        Raises:
            DeployError: what is not well.
        """
        started = time.monotonic()
        self._write_env(self.variables(release.tag, release.gpus))
        (self.folder / PASSWORDS).write_text(self._passwords)
        self.say("starting the services")
        with ThreadPoolExecutor(1) as pool:  # Compose itself waits for what others depend on, and says nothing
            starting = pool.submit(self.compose, release, ["up", "-d", "--remove-orphans"])
            self._wait(started, starting)
        release.seconds["start"] = round(time.monotonic() - started, 1)
        self.say("trying the public doors")
        self._smoke_test()
        self._unpause()

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
        smoke_test(self.client, self.urls[1])

    def _unpause(self) -> None:
        """Lets each DAG run once in an environment's life: one that somebody paused later stays paused."""
        marker = self.folder / "unpaused.json"
        done = set(json.loads(marker.read_text())) if marker.exists() else set()
        for dag_id in (name for name in CONSUMERS_FIRST if name not in done):
            self.client.set_paused(dag_id, paused=False)
        marker.write_text(json.dumps(sorted({*done, *CONSUMERS_FIRST})))

    def note(self, release: Release, operation: str, put_back: Sequence[str] = ()) -> None:
        """Tells the ledger that a release runs, and which databases were put back for it."""
        entry = {
            "operation": operation,
            "command": f"evergreen deploy --environment {self.options.environment}",
            "resources_affected": [
                *(f"image:{image_name(name, release.tag)}" for name in IMAGES),
                *(f"database:{name}" for name in put_back),
                *([f"snapshot:{release.snapshot}"] if release.snapshot else []),
            ],
            "rollback_available": len(self.history.all()) > 1,
            "duration_seconds": release.seconds["total"],
            "metrics": {"revision": release.revision, "seconds": release.seconds},
        }
        self.record(release, entry)

    def _write_env(self, variables: Mapping[str, str]) -> None:
        """For people: `docker compose --env-file var/deploy/ENVIRONMENT/compose.env ps`. It holds no secret."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}\n" for name, value in sorted(variables.items()) if value]
        (self.folder / "compose.env").write_text("".join(lines))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_env(file: Path) -> dict[str, str]:
    """Lines `NAME=value` of a file as Compose reads it; none where there is no file."""
    if not file.exists():
        return {}
    lines = (line.strip() for line in file.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#") and "=" in line)
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
