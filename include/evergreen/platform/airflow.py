"""The local Airflow: API server, scheduler and DAG processor in the background, configured by environment alone."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from evergreen.errors import PlatformError
from evergreen.platform.client import AirflowClient, ApiError, NoAnswerError
from evergreen.platform.processes import Service, refuse_taken_port, stop
from evergreen.settings import Settings
from evergreen.settings.tree import PROJECT
from evergreen.settings.workspace import FOLDER

# Events to a paused DAG are dropped, so consumers are unpaused before those who feed them.
CONSUMERS_FIRST = (
    "maintain_platform",
    "rollback_model",
    "score_batch",
    "promote_model",
    "train_candidates",
    "build_features",
    "ingest_transactions",
)
HEAVY_POOL = "heavy"
GPU_POOL = "gpu"
POLL_SECONDS = 0.25

Say = Callable[[str], None]


@dataclass(frozen=True)
class AirflowStatus:
    """What runs: `up`, `down`, or `degraded` (a part is missing or does not answer), with each part's state."""

    state: str
    url: str
    parts: dict[str, str]


@dataclass(frozen=True)
class LocalAirflow:
    """Airflow of one workspace: its database, its processes and its logs lie under `settings.home_path`."""

    settings: Settings

    @property
    def home(self) -> Path:
        """AIRFLOW_HOME."""
        return self.settings.home_path / "airflow"

    @property
    def url(self) -> str:
        """Address of the web UI and the REST API."""
        return self.settings.airflow.url

    @property
    def needs_login(self) -> bool:
        """True where users log in with a password."""
        login = self.settings.airflow.login
        if login == "auto":
            return not self.settings.airflow.is_loopback or bool(self.settings.promotion.approvers)
        return login == "password"

    @property
    def services(self) -> dict[str, Service]:
        """Background processes by the name of their `airflow` command."""
        names = [
            "api-server",
            "scheduler",
            "dag-processor",
            *(["triggerer"] if self.settings.airflow.triggerer else []),
        ]
        logs = self.settings.home_path / "logs"
        return {
            name: Service(f"airflow {name}", self.home / f"{name}.pid", logs / f"airflow-{name}.log") for name in names
        }

    @cached_property
    def client(self) -> AirflowClient:
        """A client of the REST API, logged in as admin where a login is needed."""
        return AirflowClient(self.url, self._password if self.needs_login else None)

    def environment(self) -> dict[str, str]:
        """Everything that Airflow is told, as environment variables: no configuration file is written or read."""
        settings, home = self.settings, self.home
        keys = self._keys()
        spark = {"conn_type": "spark", "host": settings.spark.master, "extra": {"deploy-mode": "client"}}
        told = {
            "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "CORE__DAGS_FOLDER": PROJECT / "dags",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__FERNET_KEY": keys["fernet"],
            "CORE__LOAD_EXAMPLES": False,
            "CORE__PARALLELISM": settings.airflow.slots,
            "CORE__PLUGINS_FOLDER": PROJECT / "plugins",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": not self.needs_login,
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in self._users.items()),
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "API__BASE_URL": self.url,
            "API__HOST": settings.airflow.host,
            "API__INSTANCE_NAME": "Evergreen",
            "API__PORT": settings.airflow.port,
            "API__SECRET_KEY": keys["api"],
            "API_AUTH__JWT_SECRET": keys["jwt"],
            "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
            "LOGGING__BASE_LOG_FOLDER": settings.home_path / "logs" / "tasks",
            "LOGGING__COLORED_CONSOLE_LOG": False,
            "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": settings.home_path / "logs" / "dag-processor",
            "LOGGING__LOGGING_LEVEL": settings.logging.level,
            # After a crash or a kill, tasks that nobody runs any more start again within a minute or two, not five.
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 30,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 120,
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.3,  # seconds until a task's successor is looked at
        }
        host = self.url.split("//")[1].rsplit(":", 1)[0]
        given = os.environ
        return {
            **given,
            **{f"AIRFLOW__{key}": str(value) for key, value in told.items()},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(spark),
            "EVERGREEN_HOME": str(settings.home_path),  # this workspace, also after another one becomes the current one
            "EVERGREEN_PROFILE": settings.profile,
            "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), given.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(
                [
                    *(str(folder) for folder in (PROJECT / "include", PROJECT / "plugins", PROJECT)),
                    *filter(None, given.get("PYTHONPATH", "").split(os.pathsep)),
                ]
            ),
            "NO_PROXY": ",".join(filter(None, [given.get("NO_PROXY", ""), host])),  # tasks talk to the API server here
        }

    def prepare(self) -> None:
        """Makes the folders, the secrets and the database, where they are not there or belong to an older Airflow.

        Raises:
            PlatformError: the database cannot be made; with the end of its log.
        """
        marker = self.home / "database-version"
        if marker.exists() and marker.read_text() == version("apache-airflow") and (self.home / "airflow.db").exists():
            return
        environment = self.environment()
        log = self.settings.home_path / "logs" / "airflow-migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            done = subprocess.run(
                [_airflow(), "db", "migrate"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            tail = Service("", log, log).tail(3)
            raise PlatformError(f"airflow db migrate ended with code {done.returncode}: {tail} (all of it: {log})")
        marker.write_text(version("apache-airflow"))

    def command(self, arguments: Sequence[str]) -> int:
        """Runs an `airflow` command line of this Airflow (`dags test ...`) in the foreground; gives its exit code."""
        self.prepare()
        return subprocess.run([_airflow(), *arguments], env=self.environment(), check=False).returncode

    def output(self, arguments: Sequence[str]) -> str:
        """What an `airflow` command line prints, errors included.

        Raises:
            PlatformError: it failed; with the last line that it printed.
        """
        done = subprocess.run(
            [_airflow(), *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stdout.strip() or "no output").splitlines()[-1]
            raise PlatformError(f"airflow {' '.join(arguments[:2])} ended with code {done.returncode}: {last}")
        return done.stdout

    def start(self, say: Say = lambda _: None) -> AirflowStatus:
        """Starts what does not run, waits until it is healthy, and lets the DAGs run, consumers first.

        Raises:
            PlatformError: the port is taken, a process died (with the end of its log), or it was not healthy in time.
        """
        services = self.services
        if self.status().state != "up":
            if services["api-server"].pid is None:
                airflow = self.settings.airflow
                refuse_taken_port(airflow.host, airflow.port, needs="Airflow's web UI", setting="airflow.port")
            say("preparing Airflow's database")
            self.prepare()
            if self.needs_login:
                self._passwords()
            environment = self.environment()
            say("starting Airflow")
            begun = datetime.now(UTC)
            for name, service in services.items():
                # Task logs lie on this machine: nobody needs the scheduler to serve them from a second port.
                extra = ["--skip-serve-logs"] if name in ("scheduler", "triggerer") else []
                service.start([_airflow(), name, *extra], environment, cwd=self.home)
            self._wait(lambda: self.client.alive_since(begun), "healthy")
        self.client.ensure_pool(HEAVY_POOL, self.settings.airflow.heavy_slots, "Spark jobs and trainers")
        self.client.ensure_pool(GPU_POOL, self.settings.container.gpu_slots, "Trainers that were promised a GPU")
        self._unpause(say)
        return self.status()

    def stop(self) -> bool:
        """Stops all processes; running tasks are told, and end what they started. True where something ran."""
        services = self.services
        server = services.pop("api-server")
        running = stop(services.values())  # before the API server: ending tasks still report to it
        return stop([server]) or running

    def status(self) -> AirflowStatus:
        """State of each part, as processes and as the API server sees them."""
        services = self.services
        parts = {
            name: "running" if service.pid else "crashed" if service.crashed else "stopped"
            for name, service in services.items()
        }
        if parts["api-server"] == "running":
            try:
                health = self.client.health()
            except (ApiError, NoAnswerError):
                parts["api-server"] = "does not answer"
            else:
                for name in ("scheduler", "dag-processor"):
                    seen = health.get(name.replace("-", "_"))
                    if parts[name] == "running" and seen != "healthy":
                        parts[name] = f"running, {seen or 'no heartbeat'}"
        up, down = (all(state == wanted for state in parts.values()) for wanted in ("running", "stopped"))
        return AirflowStatus("up" if up else "down" if down else "degraded", self.url, parts)

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        limit = self.settings.airflow.start_seconds
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            for service in self.services.values():
                if service.crashed:
                    raise PlatformError(f"{service.name} stopped: {_reason(service.tail())} (log: {service.log})")
            try:
                if ready():
                    return
            except (ApiError, NoAnswerError):
                pass  # not yet
            time.sleep(POLL_SECONDS)
        raise PlatformError(
            f"Airflow was not {what} after {limit:.0f} s (settings.airflow.start_seconds); "
            f"its logs: {self.settings.home_path / 'logs'}"
        )

    def _unpause(self, say: Say) -> None:
        """Lets each DAG run once in its life: one that somebody paused later stays paused."""
        marker = self.home / "unpaused.json"
        done = set(json.loads(marker.read_text())) if marker.exists() else set()
        wanted = [dag_id for dag_id in CONSUMERS_FIRST if dag_id not in done]
        if not wanted:
            return
        say("waiting for the DAGs")
        self._wait(lambda: set(wanted) <= self.client.dag_ids() or self._refuse_broken(wanted), "done reading the DAGs")
        for dag_id in wanted:
            self.client.set_paused(dag_id, paused=False)
        marker.write_text(json.dumps(sorted({*done, *wanted})))

    def _refuse_broken(self, dag_ids: Sequence[str]) -> bool:
        for file, trace in self.client.import_errors().items():
            if Path(file).stem in dag_ids:
                raise PlatformError(f"dags/{file} cannot be imported: {_reason(trace)}")
        return False

    def _keys(self) -> dict[str, str]:
        """Secrets of this Airflow, generated once; readable by the owner alone."""
        file = self.home / "secrets.json"
        if not file.exists():
            keys = {
                "api": secrets.token_urlsafe(32),
                "jwt": secrets.token_urlsafe(48),
                "fernet": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            }
            _write_private(file, keys)
        keys = json.loads(file.read_text())
        return {str(name): str(key) for name, key in keys.items()}

    @property
    def _users(self) -> dict[str, str]:
        """Who may log in, with their roles."""
        return {"admin": "admin", **dict.fromkeys(self.settings.promotion.approvers, "user")}

    def _passwords(self) -> dict[str, str]:
        """Passwords by user, generated where one is missing: the API server would print those that it makes itself."""
        file = self.home / "passwords.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        missing = {user: secrets.token_urlsafe(12) for user in self._users if user not in known}
        if missing:
            _write_private(file, known | missing)
        return known | missing

    def _password(self) -> tuple[str, str]:
        return "admin", self._passwords()["admin"]


def ensure_up(settings: Settings, say: Say = lambda _: None) -> AirflowClient:
    """Starts the Airflow of this workspace where it is not up, and gives its client.

    Workspaces share the port, so the Airflow of another one is stopped first.

    Raises:
        PlatformError: as `LocalAirflow.start`.
    """
    for home in (settings.root_path, *sorted((settings.root_path / FOLDER).glob("*"))):
        pid_files = list((home / "airflow").glob("*.pid"))
        if home != settings.home_path and pid_files:
            say(f"stopping the Airflow of {home}")
            stop([Service("airflow", file, file) for file in pid_files])
    airflow = LocalAirflow(settings)
    airflow.start(say)
    return airflow.client


def _airflow() -> str:
    return str(Path(sys.prefix) / "bin" / "airflow")


def _write_private(file: Path, content: Mapping[str, str]) -> None:
    """Writes JSON that only the owner can read, in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        json.dump(dict(content), output)
    draft.replace(file)


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "error:" in line.lower()]
    return (telling or lines or ["no output"])[-1]
