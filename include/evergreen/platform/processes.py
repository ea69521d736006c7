"""Background processes that outlive the command that started them: one PID file and one log each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from evergreen.errors import PlatformError

CLOCK_SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class Service:
    """A background process by name. `pid_file` says which process it is, `log` holds its output."""

    name: str
    pid_file: Path
    log: Path

    @property
    def process(self) -> psutil.Process | None:
        """The running process, None where it never started, ended, or its number now belongs to another program."""
        try:
            noted = json.loads(self.pid_file.read_text())
            process = psutil.Process(noted["pid"])
            same = abs(process.create_time() - noted["started"]) < CLOCK_SLACK_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.Error):
            return None

    @property
    def pid(self) -> int | None:
        """Process number, None where it does not run."""
        return process.pid if (process := self.process) else None

    @property
    def crashed(self) -> bool:
        """True where it was started, was not stopped on purpose, and runs no more."""
        return self.pid_file.exists() and self.process is None

    def start(self, command: Sequence[str], env: Mapping[str, str], *, cwd: Path | None = None) -> int:
        """Starts the command in a process group of its own, and gives its number. Nothing where it runs already.

        Raises:
            PlatformError: the program does not exist.
        """
        if running := self.pid:
            return running
        for folder in (self.pid_file.parent, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                started = subprocess.Popen(
                    list(command),
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise PlatformError(f"{command[0]} does not exist: run `./evergreen test` or `run` to set up") from None
        try:
            noted = {"pid": started.pid, "started": psutil.Process(started.pid).create_time()}
        except psutil.Error:
            noted = {"pid": started.pid, "started": time.time()}  # ended at once: `crashed` will tell
        self.pid_file.write_text(json.dumps(noted))
        started.returncode = 0  # the process outlives this one on purpose: no ResourceWarning when the handle goes
        return started.pid

    def stop(self, *, timeout_seconds: float = 20.0) -> bool:
        """Ends the process and its children. True where it ran."""
        return stop([self], timeout_seconds=timeout_seconds)

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log, empty where there is none."""
        try:
            with self.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 64 * 1024))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def stop(services: Iterable[Service], *, timeout_seconds: float = 20.0) -> bool:
    """Ends processes and all their children together: first asked, then killed. True where there was one to end."""
    family: list[psutil.Process] = []
    for service in services:
        if process := service.process:
            family += [process, *_children(process)]
            _signal_group(process.pid, signal.SIGTERM)
        service.pid_file.unlink(missing_ok=True)
    _, alive = psutil.wait_procs(family, timeout=timeout_seconds)
    for left in alive:
        left.kill()
    psutil.wait_procs(alive, timeout=5)
    return bool(family)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def refuse_taken_port(host: str, port: int, *, needs: str, setting: str) -> None:
    """Says in time that a port is taken, instead of a server's traceback later.

    Raises:
        PlatformError: something listens there; names the port, the program where it can be seen, and the setting.
    """
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            variable = "EVERGREEN__" + setting.upper().replace(".", "__")
            raise PlatformError(
                f"port {port} of {host}, which {needs} needs, is in use{_listener(port)} ({error.strerror}): "
                f"stop what listens there, or set settings.{setting} ({variable}=...)"
            ) from None


def _listener(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr and connection.laddr.port == port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # other users' sockets may not be looked at
    return ""
