"""Settings of the Docker broker: what containers workers may ask for."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from pydantic import Field, field_validator

from evergreen.settings.base import Section

IMAGE_REFERENCE = re.compile(r"sha256:[0-9a-f]{64}|[a-z0-9]+(?:[._/:-]+[A-Za-z0-9]+)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class VolumeRule(Section):
    """Where in a container a named volume may be mounted."""

    target: str = Field(description="The one absolute path at which containers may have it.")
    read_only: bool = Field(True, description="Containers may have it read-only alone.")

    @field_validator("target")
    @classmethod
    def _is_plain(cls, target: str) -> str:
        if not is_plain_path(target):
            raise ValueError("must be an absolute path without '.', '..' and '//', below the root")
        return target


class BrokerSettings(Section):
    """The service between workers and the Docker engine. It refuses what is not allowed here."""

    name: str = Field(
        "evergreen",
        pattern=f"^{_NAME.pattern}$",
        description="Stands on each container as the label `evergreen.broker`. A broker knows containers with its own "
        "name alone: give each broker on an engine another.",
    )
    host: str = Field("127.0.0.1", description="Address that the broker listens on.")
    port: int = Field(2375, ge=1, le=65535, description="Port that the broker listens on, plain HTTP.")
    socket: Path = Field(Path("/var/run/docker.sock"), description="The engine's Unix socket.")
    images: tuple[str, ...] = Field(
        (),
        description="Images that may run: tags (`evergreen/trainer:0.1.0`) or ids (`sha256:...`). A tag stands for the "
        "image that it named when the broker started. Empty: none.",
    )
    volumes: dict[str, VolumeRule] = Field(
        {}, description="Named volumes that may be mounted: `{name: {target: /path, read_only: true}}`. Empty: none."
    )
    networks: tuple[str, ...] = Field(("none",), description="Networks that containers may be in.")
    gpus: bool = Field(False, description="Containers may ask for GPUs.")
    max_memory_gib: float = Field(16.0, gt=0, description="Most memory of a container, GiB.")
    max_cpus: float = Field(16.0, gt=0, description="Most CPUs of a container.")
    max_pids: int = Field(4096, ge=1, description="Most processes and threads of a container.")
    max_containers: int = Field(16, ge=1, description="Most containers at once, those that have ended included.")
    max_body_bytes: int = Field(262_144, ge=1024, description="Longest request body.")
    grace_seconds: float = Field(
        10.0,
        gt=0,
        le=45,
        description="A running container whose output nobody reads any more is ended after so many seconds.",
    )
    start_seconds: float = Field(
        60.0, gt=0, description="A container that nobody attached to is removed so many seconds after it was created."
    )
    finished_seconds: float = Field(
        600.0, gt=0, description="A container that ended by itself is removed after so many seconds, if nobody did."
    )

    @field_validator("images")
    @classmethod
    def _are_references(cls, images: tuple[str, ...]) -> tuple[str, ...]:
        for image in images:
            if not IMAGE_REFERENCE.fullmatch(image) or (":" not in image.rpartition("/")[2]):
                raise ValueError(f"{image!r} must be an image with its tag (name:tag) or an id (sha256:...)")
        return images

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            if not _NAME.fullmatch(network) or network in ("host", "default"):
                raise ValueError(f"{network!r} must be a network's name, and neither 'host' nor 'default'")
        return networks

    @field_validator("volumes")
    @classmethod
    def _are_volumes(cls, volumes: dict[str, VolumeRule]) -> dict[str, VolumeRule]:
        for name in volumes:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} must be a volume's name, not a path")
        return volumes

    @property
    def max_memory_bytes(self) -> int:
        """Most memory of a container, bytes."""
        return int(self.max_memory_gib * 2**30)

    @property
    def max_nano_cpus(self) -> int:
        """Most CPUs of a container, billionths of one."""
        return int(self.max_cpus * 1e9)


def is_plain_path(path: str) -> bool:
    """True for an absolute path below the root that is spelled in the one simplest way."""
    return path != "/" and path.startswith("/") and ".." not in path.split("/") and str(PurePosixPath(path)) == path
