"""What a machine must have before anything starts. Each check gives None, or one line: seen, expected, what to do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergreen.errors import DeployError

GIB = 1024**3
FREE_GIB = 15.0
MEMORY_GIB = 12.0


@dataclass(frozen=True)
class Machine:
    """What was found."""

    free_bytes: int
    memory_bytes: int
    runtimes: tuple[str, ...]
    disk: Path

    @staticmethod
    def of(info: Mapping[str, Any]) -> Machine:
        """From what the engine says about itself; its disk is looked at where it is this machine's."""
        disk = Path(str(info.get("DockerRootDir") or "/"))
        while not disk.exists():
            disk = disk.parent
        return Machine(
            shutil.disk_usage(disk).free, int(info.get("MemTotal", 0)), tuple(info.get("Runtimes") or ()), disk
        )


def check_disk(machine: Machine, needed_gib: float = FREE_GIB) -> str | None:
    """Images, databases and a lake need room."""
    free = machine.free_bytes / GIB
    if free >= needed_gib:
        return None
    return f"{free:.1f} GiB are free on the disk of {machine.disk}, must be {needed_gib:.0f}: docker system prune helps"


def check_memory(machine: Machine, needed_gib: float = MEMORY_GIB) -> str | None:
    """All services together, while a day is trained."""
    has = machine.memory_bytes / GIB
    if has >= needed_gib:
        return None
    return f"the engine has {has:.1f} GiB of memory, must be {needed_gib:.0f}: give it more (Docker Desktop: Resources)"


def check_gpu(machine: Machine, wanted: str) -> str | None:
    """A GPU where one is demanded."""
    if wanted != "on" or "nvidia" in machine.runtimes:
        return None
    runtimes = ", ".join(machine.runtimes) or "none"
    return (
        f"--gpu on, and the engine has no NVIDIA runtime (it has: {runtimes}): install nvidia-container-toolkit, "
        "or use --gpu auto"
    )


def check_port(address: str, port: int, setting: str) -> str | None:
    """A port that is to be published is free."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return f"port {port} of {address} cannot be taken ({error.strerror}): stop what has it, or set {setting}"
    return None


def refuse(checks: Sequence[Callable[[], str | None]]) -> None:
    """Runs checks in order.

    Raises:
        DeployError: the first that does not hold.
    """
    for check in checks:
        if reason := check():
            raise DeployError(reason)
