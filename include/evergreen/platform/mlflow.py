"""The local MLflow: a web UI over the tracking database. Training and serving do not need it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from evergreen.errors import PlatformError
from evergreen.platform.processes import Service, refuse_taken_port
from evergreen.settings import Settings

LOCAL = "sqlite:///"


@dataclass(frozen=True)
class LocalMlflow:
    """MLflow's server on this machine, on the workspace's own database."""

    settings: Settings

    @property
    def url(self) -> str:
        """Address of the UI; the tracking URI itself where that is a server already."""
        uri = self.settings.mlflow_uri
        return f"http://127.0.0.1:{self.settings.mlflow.port}" if uri.startswith(LOCAL) else uri

    @property
    def service(self) -> Service:
        """The background process."""
        home = self.settings.home_path
        return Service("mlflow server", home / "mlflow" / "server.pid", home / "logs" / "mlflow.log")

    @property
    def state(self) -> str:
        """`running`, `stopped`, `crashed`, or `elsewhere` for a server that is not ours to start."""
        if not self.settings.mlflow_uri.startswith(LOCAL):
            return "elsewhere"
        return "running" if self.service.pid else "crashed" if self.service.crashed else "stopped"

    def start(self) -> None:
        """Starts the UI in the background; it answers some seconds later.

        Raises:
            PlatformError: the port is taken.
        """
        if self.state in ("running", "elsewhere"):
            return
        port = self.settings.mlflow.port
        refuse_taken_port("127.0.0.1", port, needs="MLflow's UI", setting="mlflow.port")
        folder = self.settings.home_path / "mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        program = Path(sys.prefix) / "bin" / "mlflow"
        if not program.exists():
            raise PlatformError(f"{program} does not exist: run `./evergreen test` or `run` to set up")
        command = [
            *(str(program), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", self.settings.mlflow_uri),
            *("--default-artifact-root", str(folder / "artifacts")),
        ]
        self.service.start(command, os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}, cwd=folder)
