"""Settings of the container that a candidate is trained in, where `settings.training.runtime` is `docker`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from evergreen import __version__
from evergreen.settings.base import Section
from evergreen.settings.machine import GIB, this_machine

ENGINE_SCHEMES = ("unix://", "tcp://", "http://", "https://", "ssh://", "npipe://")


class Gpus(StrEnum):
    """Whether a trainer gets a GPU."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class ContainerSettings(Section):
    """The container that a candidate is trained in, where `settings.training.runtime` is `docker`."""

    image: str = Field(
        f"evergreen/trainer:{__version__}",
        min_length=1,
        description="Image of the trainer, by tag or digest. It must be on the engine: nothing is pulled.",
    )
    engine_url: str = Field(
        "unix:///var/run/docker.sock", description="Docker engine, or the broker that stands before it."
    )
    volumes: dict[str, str] = Field(
        default_factory=dict,
        description="Named volumes by the absolute path at which workers and trainers see them. Empty: the folders "
        "themselves are mounted, for workers on the engine's own machine.",
    )
    memory_gib: float | Literal["auto"] = Field(
        "auto", description="Memory of a trainer; it gets no swap. `auto`: half of this machine's memory, at least 1."
    )
    cpus: float | Literal["auto"] = Field("auto", description="Cores of a trainer. `auto`: all of this machine.")
    pids: int = Field(512, ge=16, description="Processes and threads of a trainer.")
    shm_mib: int = Field(256, ge=1, description="Shared memory (`/dev/shm`), part of the memory.")
    tmp_mib: int = Field(
        256, ge=1, description="`/tmp`, the only place besides its output that a trainer can write to."
    )
    seconds: float = Field(14_400.0, gt=0, description="A trainer that runs longer is stopped, and its task fails.")
    gpus: Gpus = Field(
        Gpus.AUTO,
        description="`on`: every trainer gets a GPU and waits in the pool `gpu` for it; refused where the engine has "
        "none. `auto`: models that can use one get it where there is one.",
    )
    gpu_slots: int = Field(1, ge=1, description="GPUs of the engine's machine: slots of the pool `gpu`.")
    network: Literal["none"] = Field("none", description="A trainer reads and writes its folders and talks to nobody.")

    @property
    def memory_bytes(self) -> int:
        """Memory limit with `auto` resolved, bytes."""
        gib = max(1.0, this_machine().memory_bytes / GIB / 2) if self.memory_gib == "auto" else self.memory_gib
        return int(gib * GIB)

    @property
    def nano_cpus(self) -> int:
        """CPU limit with `auto` resolved, in the engine's unit of a billionth of a core."""
        return int((this_machine().cores if self.cpus == "auto" else self.cpus) * 1e9)

    @field_validator("gpus", mode="before")
    @classmethod
    def _yaml_reads_on_as_true(cls, value: object) -> object:
        return {True: Gpus.ON, False: Gpus.OFF}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.engine_url.startswith(ENGINE_SCHEMES):
            raise ValueError(f"engine_url is {self.engine_url!r}, must begin with one of: {', '.join(ENGINE_SCHEMES)}")
        for path, volume in self.volumes.items():
            if not PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise ValueError(f"volumes names the path {path!r}, must be absolute and without '..'")
            if not volume or "/" in volume:
                raise ValueError(f"volumes gives {path} the name {volume!r}, must be the name of a volume, no path")
        if self.memory_gib != "auto" and self.memory_gib < 0.0625:
            raise ValueError(f"memory_gib is {self.memory_gib}, must be at least 0.0625 or 'auto'")
        if self.cpus != "auto" and self.cpus < 0.1:
            raise ValueError(f"cpus is {self.cpus}, must be at least 0.1 or 'auto'")
        return self
