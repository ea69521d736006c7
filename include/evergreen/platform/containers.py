"""Trainer containers: whose they are, what they see, why they ended, and which of them nobody waits for any more.

Nothing here talks to an engine.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergreen.errors import PlatformError
from evergreen.settings import Settings

PREFIX = "evergreen."
PART = "trainer"
IMAGE_USER = 50_000  # the user `evergreen` of all images, its group has the same number
TAIL_LINES = 20

SIGNAL_BASE = 128
SIGKILL, SIGTERM, SIGSEGV = 9, 15, 11
EXITS = {
    125: "the engine could not run it: look at the engine's own log",
    126: "its entry point cannot be executed: settings.container.image is no trainer image",
    127: "its entry point was not found: settings.container.image is no trainer image",
    SIGNAL_BASE + SIGTERM: "it was asked to stop, by hand or by the engine's shutdown",
    SIGNAL_BASE + SIGSEGV: "it crashed inside a library (segmentation fault)",
}


@dataclass(frozen=True, order=True)
class TaskKey:
    """A task instance, whichever try of it. `map_index` is -1 where the task is not mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


@dataclass(frozen=True)
class Owner:
    """For whom a container runs: a try of a task, in one workspace (several may share an engine)."""

    workspace: str
    task: TaskKey
    try_number: int

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the container."""
        return self.labels_of_all_tries | {f"{PREFIX}try_number": str(self.try_number)}

    @property
    def labels_of_all_tries(self) -> dict[str, str]:
        """What the containers of all tries of this task instance have in common."""
        task = self.task
        named = {"part": PART, "workspace": self.workspace, "dag_id": task.dag_id, "run_id": task.run_id}
        named |= {"task_id": task.task_id, "map_index": str(task.map_index)}
        return {f"{PREFIX}{name}": value for name, value in named.items()}

    @staticmethod
    def read(labels: Mapping[str, str]) -> Owner | None:
        """From a container's labels; None where they name no task."""
        try:
            dag_id, run_id, task_id = (labels[f"{PREFIX}{name}"] for name in ("dag_id", "run_id", "task_id"))
            task = TaskKey(dag_id, run_id, task_id, int(labels[f"{PREFIX}map_index"]))
            return Owner(labels[f"{PREFIX}workspace"], task, int(labels[f"{PREFIX}try_number"]))
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True)
class MountPoint:
    """A folder or a named volume in a container, at the same absolute path as in the task."""

    source: str
    target: str
    is_volume: bool
    read_only: bool


def workspace_of(settings: Settings) -> str:
    """What tells this workspace's containers from those of others on the same engine: its volume, else its folder."""
    volume = _volume(settings, settings.home_path / "models" / "trained")
    return volume.source if volume else str(settings.home_path)


def part_filter(workspace: str) -> list[str]:
    """The engine's filter for the trainers of a workspace."""
    return as_filter({f"{PREFIX}part": PART, f"{PREFIX}workspace": workspace})


def as_filter(labels: Mapping[str, str]) -> list[str]:
    """Labels as the engine's filter wants them."""
    return [f"{name}={value}" for name, value in labels.items()]


def mounts(settings: Settings, training_set: Path, output: Path) -> list[MountPoint]:
    """What a trainer sees: its training set to read, its output folder to write.

    Raises:
        PlatformError: named volumes are used and one of the folders lies in none of them, or both in the same one.
    """
    if not settings.container.volumes:
        return [
            MountPoint(str(training_set), str(training_set), is_volume=False, read_only=True),
            MountPoint(str(output), str(output), is_volume=False, read_only=False),
        ]
    found = []
    for folder, read_only in ((training_set, True), (output, False)):
        volume = _volume(settings, folder, read_only=read_only)
        if volume is None:
            raise PlatformError(
                f"{folder} lies in none of the volumes that settings.container.volumes names "
                f"({', '.join(settings.container.volumes)}): a trainer would not see it"
            )
        found.append(volume)
    if found[0].target == found[1].target:
        raise PlatformError(
            f"training sets and trained models both lie in the volume {found[0].source}, and a trainer may only read "
            "the former: name a volume for each in settings.container.volumes"
        )
    return found


def user_of(settings: Settings) -> str:
    """`uid:gid` of a trainer, never root: with bind mounts whoever runs the task, so that both can use the files."""
    if settings.container.volumes or os.getuid() == 0:
        return f"{IMAGE_USER}:{IMAGE_USER}"
    return f"{os.getuid()}:{os.getgid()}"


def hand_over(folder: Path, user: str) -> None:
    """Lets the trainer's user write to a folder that a task made, where root made it."""
    if os.getuid() == 0:
        uid, gid = (int(part) for part in user.split(":"))
        for path in (folder, *folder.iterdir()):
            os.chown(path, uid, gid)


def exit_in_words(code: int, *, out_of_memory: bool, settings: Settings) -> str:
    """Why a trainer's container ended, and what to do about it."""
    if out_of_memory:
        gib = settings.container.memory_bytes / 1024**3
        return (
            f"the trainer ran out of memory: it may use {gib:.2f} GiB (settings.container.memory_gib). Allow more, or "
            "train on fewer dates (settings.training.steps)"
        )
    known = EXITS.get(code)
    if code == SIGNAL_BASE + SIGKILL:
        known = "it was killed from outside: by hand, by the broker, or because the machine ran out of memory"
    elif known is None and code > SIGNAL_BASE:
        known = f"it was ended by signal {code - SIGNAL_BASE}"
    return f"the trainer's container ended with code {code}" + (f": {known}" if known else "")


def too_long(settings: Settings) -> str:
    """What is said of a trainer that was stopped at its time limit."""
    return (
        f"the trainer was stopped after {settings.container.seconds:g} s (settings.container.seconds). Allow more time "
        "or more cores (settings.container.cpus), or train on fewer dates (settings.training.steps)"
    )


def with_tail(what: str, lines: Sequence[str]) -> str:
    """An explanation, and the last lines of the container's log below it."""
    tail = [line for line in lines if line.strip()][-TAIL_LINES:]
    return "\n".join([what, *(["the end of its log:", *tail] if tail else ["its log is empty"])])


def orphans(
    containers: Iterable[Mapping[str, Any]], running: Collection[tuple[TaskKey, int | None]], workspace: str
) -> list[str]:
    """Ids of this workspace's trainer containers that no running task waits for.

    The containers must be listed before the tasks: the other way round, one that starts in between would look like an
    orphan.

    Args:
        containers: as the engine lists them: `Id`, `Labels`.
        running: task instances that run, each with its try; None where the try is not known, which spares every try.
        workspace: `workspace_of(settings)`. Containers of others are left alone, whatever their state.
    """
    found = []
    for container in containers:
        labels = container.get("Labels") or {}
        if labels.get(f"{PREFIX}part") != PART or labels.get(f"{PREFIX}workspace") != workspace:
            continue
        owner = Owner.read(labels)
        if owner is None or not {(owner.task, owner.try_number), (owner.task, None)} & set(running):
            found.append(str(container["Id"]))
    return found


def _volume(settings: Settings, folder: Path, *, read_only: bool = False) -> MountPoint | None:
    """The named volume that a folder lies in, the innermost of several."""
    holding = [path for path in settings.container.volumes if folder.is_relative_to(path)]
    if not holding:
        return None
    path = max(holding, key=lambda text: len(Path(text).parts))
    return MountPoint(settings.container.volumes[path], path, is_volume=True, read_only=read_only)
