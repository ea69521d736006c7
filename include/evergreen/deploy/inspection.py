"""Whether the containers that run are confined as the Compose file promises: as the engine, not the file, tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergreen.broker.policy import BROKER_LABEL
from evergreen.deploy.engine import LASTING, PROJECT_LABEL, SERVICE_LABEL, Engine

TRAINER = "trainer"
NAMESPACES = ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode")


@dataclass(frozen=True)
class Allowed:
    """What a service may that others may not."""

    capabilities: frozenset[str]
    why: str
    root_processes: int = 1  # at most


EXCEPTIONS: Mapping[str, Allowed] = {
    "postgres": Allowed(
        frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}),
        "starts as root to hand its folder to postgres, then runs as that user",
    ),
    "redis-init": Allowed(frozenset({"CHOWN"}), "hands Redis its volume, lives for a second"),
    "monitoring-init": Allowed(frozenset({"CHOWN"}), "hands Prometheus and Grafana their volumes, lives for a second"),
}
"""Services that start as root, and why."""


@dataclass(frozen=True)
class Inspected:
    """A running container."""

    service: str
    user: str
    root_processes: int
    read_only: bool
    capabilities: tuple[str, ...]  # those that it has beyond none
    no_new_privileges: bool
    memory_bytes: int
    pids: int
    problems: tuple[str, ...]
    exception: str  # why it may what it may; empty where there is none


def inspect(engine: Engine, project: str) -> list[Inspected]:
    """Every running container of an environment, its trainers too, by service."""
    found = [
        (container["Config"]["Labels"][SERVICE_LABEL], container)
        for container in engine.containers(f"{PROJECT_LABEL}={project}", LASTING)
    ]
    found += [(TRAINER, container) for container in engine.containers(f"{BROKER_LABEL}={project}")]
    inspected = [
        judge(service, container, engine.processes(container["Id"]).count("root")) for service, container in found
    ]
    return sorted(inspected, key=lambda one: one.service)


def judge(service: str, container: Mapping[str, Any], root_processes: int) -> Inspected:
    """Compares a container with what is promised.

    Args:
        service: name of its service.
        container: as `docker inspect` tells it.
        root_processes: how many of its processes run as root.
    """
    host = container["HostConfig"]
    allowed = EXCEPTIONS.get(service)
    return Inspected(
        service,
        str(container["Config"].get("User") or "root"),
        root_processes,
        bool(host.get("ReadonlyRootfs")),
        tuple(sorted(_capabilities(host))),
        _confined(host),
        int(host.get("Memory") or 0),
        int(host.get("PidsLimit") or 0),
        tuple(_problems(container, root_processes, allowed)),
        allowed.why if allowed else "",
    )


def _problems(container: Mapping[str, Any], root_processes: int, allowed: Allowed | None) -> Iterator[str]:
    host = container["HostConfig"]
    user = str(container["Config"].get("User") or "root").split(":")[0]
    more = sorted(_capabilities(host) - (allowed.capabilities if allowed else frozenset()))
    shared = [name for name in NAMESPACES if host.get(name) == "host"]
    found = {
        "starts as root": user in ("root", "0") and allowed is None,
        f"{root_processes} processes run as root": root_processes > (allowed.root_processes if allowed else 0),
        "its root file system can be written": not host.get("ReadonlyRootfs"),
        "capabilities are not dropped": "ALL" not in (host.get("CapDrop") or ()),
        f"has {', '.join(more)}": bool(more),
        "may gain privileges": not _confined(host),
        "has no limit of memory": not host.get("Memory"),
        "has no limit of processes": (host.get("PidsLimit") or 0) <= 0,
        "is privileged": bool(host.get("Privileged")),
        f"shares {', '.join(shared)} with the machine": bool(shared),
    }
    yield from (problem for problem, is_so in found.items() if is_so)


def _capabilities(host: Mapping[str, Any]) -> set[str]:
    return {str(name).removeprefix("CAP_") for name in host.get("CapAdd") or ()}


def _confined(host: Mapping[str, Any]) -> bool:
    return {"no-new-privileges", "no-new-privileges:true"} & set(host.get("SecurityOpt") or ()) != set()
