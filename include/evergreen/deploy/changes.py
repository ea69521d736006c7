"""Harmless real changes of each kind, and the way back from each: what a drill makes and goes back from."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from evergreen.deploy import snapshot
from evergreen.deploy.back import roll_back
from evergreen.deploy.images import image_name
from evergreen.deploy.looks import Look
from evergreen.deploy.releases import Release
from evergreen.deploy.snapshot import Parts
from evergreen.deploy.stack import IMAGES, Stack
from evergreen.errors import DeployError

MODEL_SECONDS = 240.0
POLL_SECONDS = 1.0
_CLI = ("python", "-m", "evergreen.cli")


@dataclass
class Change(ABC):
    """A change of one kind to a running environment."""

    stack: Stack
    before: Look

    kind: ClassVar[str]
    told: ClassVar[str]  # what is changed, for people
    shows: ClassVar[tuple[str, ...]]  # what must look different once it is made
    free: ClassVar[tuple[str, ...]] = ()  # what may look different after going back

    @abstractmethod
    def make(self) -> None:
        """Makes it."""

    @abstractmethod
    def go_back(self) -> None:
        """Goes back from it: this is what is timed."""

    def impossible(self) -> str:
        """Why it cannot be made here; empty where it can."""
        return ""

    def undo(self) -> None:
        """Goes back from what `make` left when it failed."""
        self.go_back()

    def clean(self) -> None:  # noqa: B027 - most need none
        """Removes what only the drill needed."""


@dataclass
class _ReleaseChange(Change):
    """A change that comes with a release, and is gone back from by `deploy --rollback`."""

    def __post_init__(self) -> None:
        self._releases = len(self.stack.history.all())

    def make(self) -> None:
        """Takes a snapshot of the databases and starts the release."""
        self.stack.put(self.release(self.stack.history.all()[-1]), Parts.DATABASES)

    def release(self, running: Release) -> Release:
        """The release that brings the change."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(running, at=now, snapshot="", seconds={})

    def go_back(self) -> None:
        """Brings the release before up again."""
        roll_back(self.stack)

    def undo(self) -> None:
        """Goes back where the drill's release was begun: never to what was there before the drill."""
        if self.stack.history.begun() or len(self.stack.history.all()) > self._releases:
            self.go_back()


class _ImageChange(_ReleaseChange):
    layer: ClassVar[str]  # what the Dockerfile of its images adds

    def release(self, running: Release) -> Release:
        """The running release's images, with a layer more."""
        release = replace(super().release(running), tag=f"{running.tag}-drill-{self.kind}")
        for target in IMAGES:
            base = image_name(target, running.tag)
            lines = (f"FROM {base}", "USER 0", self.layer, f"LABEL evergreen.drill={self.kind}", "USER 50000:50000")
            self.stack.engine.derive(image_name(target, release.tag), "\n".join(lines) + "\n")
        return release

    def clean(self) -> None:
        """Removes the images."""
        running = self.stack.history.all()[-1].tag
        for target in IMAGES:
            self.stack.engine.remove_image(image_name(target, f"{running}-drill-{self.kind}"))


class CodeChange(_ImageChange):
    """Other sources in every image."""

    kind: ClassVar[str] = "code"
    told: ClassVar[str] = "every image with other sources: the package calls itself another version"
    shows: ClassVar[tuple[str, ...]] = ("images", "serving.version", "home.version", "home.code")
    layer: ClassVar[str] = (
        r"""RUN printf '\n__version__ += "+drill"\n' >>/opt/evergreen/include/evergreen/__init__.py"""
    )


class DependenciesChange(_ImageChange):
    """Another lock and one package more in every image."""

    kind: ClassVar[str] = "dependencies"
    told: ClassVar[str] = "every image with another lock, and a package more in its environment"
    shows: ClassVar[tuple[str, ...]] = ("images", "home.lock", "home.packages")
    layer: ClassVar[str] = (
        """RUN d=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/evergreen_drill-1.0.dist-info """
        r"""&& mkdir "$d" && printf 'Metadata-Version: 2.1\nName: evergreen-drill\nVersion: 1.0\n' >"$d/METADATA" """
        r"""&& for lock in /opt/evergreen/requirements/*.lock; do printf '# evergreen-drill==1.0\n' >>"$lock"; done"""
    )


class ConfigurationChange(_ReleaseChange):
    """Another setting of the Compose file."""

    kind: ClassVar[str] = "configuration"
    told: ClassVar[str] = "EVERGREEN_HEAVY_SLOTS is one more: the pool `heavy` has another size"
    shows: ClassVar[tuple[str, ...]] = ("airflow.heavy_slots",)

    def release(self, running: Release) -> Release:
        """The running release, with one setting changed."""
        slots = {"EVERGREEN_HEAVY_SLOTS": str(self.before["airflow.heavy_slots"] + 1)}
        return replace(super().release(running), settings={**self.stack.now().settings, **slots})


class DatabasesChange(ConfigurationChange):
    """A release that migrates Airflow's database."""

    kind: ClassVar[str] = "databases"
    told: ClassVar[str] = "Airflow's database: another Alembic revision, a column more in `variable`, and a row in it"
    shows: ClassVar[tuple[str, ...]] = ("airflow.variables", "schema.airflow")
    planted: ClassVar[str] = (
        "ALTER TABLE variable ADD COLUMN evergreen_drill text;"
        "INSERT INTO variable (key, val, is_encrypted) VALUES ('evergreen_drill', 'planted', false);"
        "UPDATE alembic_version SET version_num = 'evergreen_drill';"
    )

    def make(self) -> None:
        """Migrates; then going back without the databases must be refused."""
        super().make()
        self.stack.databases.ask("airflow", self.planted)
        try:
            roll_back(self.stack)
        except DeployError as error:
            if "--databases" not in str(error):
                raise
        else:
            raise DeployError("going back from a migrated database without --databases was not refused")

    def go_back(self) -> None:
        """Brings the release before up again, and its databases."""
        roll_back(self.stack, databases=True)


@dataclass
class ArtefactsChange(Change):
    """A damaged file of the champion's bundle."""

    kind: ClassVar[str] = "artefacts"
    told: ClassVar[str] = "a byte more at the end of the largest file of the champion's bundle"
    shows: ClassVar[tuple[str, ...]] = ("home.bundle",)
    damage: ClassVar[str] = (
        "from evergreen.promotion import champion; from evergreen.settings import load_settings; s = load_settings(); "
        "f = champion.bundle_folder(s, champion.current(s).bundle_digest).iterdir(); "
        "max(f, key=lambda one: one.stat().st_size).open('ab').write(b'x')"
    )

    backup: str = field(default="", init=False)

    def impossible(self) -> str:
        """Without a champion there is nothing to damage."""
        return "" if self.before["home.bundle"] == "whole" else "there is no champion with a whole bundle"

    def make(self) -> None:
        """Takes a snapshot with the home, then damages the file."""
        name = self.stack.snapshot(Parts.ALL)
        self.backup = str((snapshot.read(self.stack.snapshots, name).home or {})["backup"])
        self.stack.in_worker(("python", "-c", self.damage))

    def go_back(self) -> None:
        """Puts back what differs from the backup, while everything runs."""
        self.stack.in_worker((*_CLI, "restore", "--artefacts", self.backup))

    def undo(self) -> None:
        """The same, where there is a backup."""
        if self.backup:
            self.go_back()


class ModelChange(Change):
    """An earlier champion."""

    kind: ClassVar[str] = "model"
    told: ClassVar[str] = "the champion before is the champion again, by the DAG rollback_model"
    shows: ClassVar[tuple[str, ...]] = ("home.champion", "home.generation", "serving.champion")
    free: ClassVar[tuple[str, ...]] = ("home.generation", "serving.generation", "airflow.runs")

    def impossible(self) -> str:
        """Without an earlier champion there is no way back."""
        return "" if self.before["home.earlier"] else "there is no earlier champion to go back to"

    def make(self) -> None:
        """Rolls back, as somebody would in the web UI."""
        self._roll_back_to(self.before["home.earlier"][0])

    def go_back(self) -> None:
        """Rolls back to the champion of before; neither version stays barred."""
        present = self.before["home.champion"][0]
        self._release(present)
        self._roll_back_to(present)
        self._release(self.before["home.earlier"][0])

    def _roll_back_to(self, version: str) -> None:
        """Until its predictions are published too: `score_batch` follows each change of champion."""
        client = self.stack.now().client
        scored = {run["dag_run_id"] for run in client.dag_runs("score_batch")}
        run = client.trigger("rollback_model", partition_key=None, conf={"to": version, "reason": "rollback drill"})
        deadline = time.monotonic() + MODEL_SECONDS
        while (state := client.dag_run("rollback_model", run["dag_run_id"])["state"]) != "success":
            if state == "failed" or time.monotonic() > deadline:
                raise DeployError(f"rollback_model to version {version} is {state}: see {client.url}")
            time.sleep(POLL_SECONDS)
        while not _ended([run for run in client.dag_runs("score_batch") if run["dag_run_id"] not in scored]):
            if time.monotonic() > deadline:
                raise DeployError(f"score_batch did not follow the rollback to version {version}: see {client.url}")
            time.sleep(POLL_SECONDS)

    def _release(self, version: str) -> None:
        self.stack.in_worker((*_CLI, "ledger", "release", version, "--reason", "rollback drill"))


def _ended(runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there are some, and none is still to end."""
    return bool(runs) and all(run["state"] in ("success", "failed") for run in runs)


CHANGES: dict[str, type[Change]] = {
    one.kind: one
    for one in (CodeChange, DependenciesChange, ConfigurationChange, DatabasesChange, ArtefactsChange, ModelChange)
}
"""Kinds of change, in the order in which they are drilled."""
