"""What a deployment can be taken back to: dumps of the databases, its configuration, and a backup of its home.

A snapshot is a folder for its owner alone. Its manifest is written last: a folder without one is no snapshot, and is
removed by the next. The home's part is an ordinary backup (`evergreen.backup`) that lies with the home's other backups
and shares with them what did not change; `settings.backup.keep` says how long.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

from evergreen.backup.manifest import StoredFile, digest_of
from evergreen.backup.places import NAME, new_name
from evergreen.deploy.databases import DATABASES, Databases
from evergreen.errors import DeployError
from evergreen.files import write_whole
from evergreen.lake.digest import canonical_json, digest_json

FORMAT = "evergreen.snapshot/1"
MANIFEST = "manifest.json"
DRAFT = ".draft."
KEPT = 3
_MODELS = "SELECT CASE WHEN to_regclass('model_versions') IS NULL THEN 0 ELSE 1 END"


class Parts(StrEnum):
    """What is taken."""

    ALL = "all"
    DATABASES = "databases"
    NONE = "none"


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot holds."""

    environment: str
    release: str  # tag of what ran
    made_at: str  # ISO 8601, UTC
    schemas: Mapping[str, str]  # database -> what its owner's migrations had brought it to
    models: int  # versions that MLflow knew
    home: Mapping[str, Any] | None  # the backup: folder in the container, digest, bytes; None: it was left out
    files: Mapping[str, StoredFile]
    seconds: Mapping[str, float] = field(default_factory=dict)  # by step
    format: str = FORMAT

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def models_known(databases: Databases) -> int:
    """Versions of models that MLflow has given numbers to."""
    if databases.ask("mlflow", _MODELS) != ["1"]:
        return 0
    return int(databases.ask("mlflow", "SELECT count(*) FROM model_versions")[0])


def make(
    folder: Path,
    databases: Databases,
    *,
    environment: str,
    release: str,
    made_at: str,
    configuration: Sequence[Path],
    back_up_home: Callable[[], Mapping[str, Any]] | None,
) -> str:
    """Makes a snapshot and gives its name.

    Args:
        folder: of all snapshots of the environment.
        databases: what is dumped.
        environment: whose it is.
        release: tag of what runs.
        made_at: ISO 8601, UTC.
        configuration: files that are copied.
        back_up_home: makes the backup of the home and says where it is; None leaves it out.

    Raises:
        DeployError: a part could not be taken; nothing is left behind then, but a backup of the home that was made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in folder.glob(f"{DRAFT}*"):
        shutil.rmtree(left)
    draft = folder / f"{DRAFT}{uuid4().hex}"
    seconds: dict[str, float] = {}
    try:
        home = _home(back_up_home, seconds)
        (draft / "databases").mkdir(parents=True, mode=0o700)
        draft.chmod(0o700)
        schemas = {}
        for name in DATABASES:
            began = perf_counter()
            schemas[name] = databases.schema(name)
            databases.dump(name, draft / "databases" / f"{name}.dump")
            seconds[name] = round(perf_counter() - began, 2)
        (draft / "configuration").mkdir(mode=0o700)
        for file in configuration:
            shutil.copyfile(file, draft / "configuration" / file.name)
            (draft / "configuration" / file.name).chmod(0o600)
        files = {str(path.relative_to(draft)): digest_of(path) for path in sorted(draft.rglob("*")) if path.is_file()}
        snapshot = Snapshot(environment, release, made_at, schemas, models_known(databases), home, files, seconds)
        document = {"digest": digest_json(asdict(snapshot)), "snapshot": asdict(snapshot)}
        write_whole(draft / MANIFEST, canonical_json(document) + "\n")
        (draft / MANIFEST).chmod(0o600)
        name = new_name(folder)
        draft.rename(folder / name)
    except OSError as error:
        raise DeployError(f"{folder} cannot hold a snapshot: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return name


def read(folder: Path, name: str) -> Snapshot:
    """A snapshot, every file of it checked.

    Raises:
        DeployError: it is gone, or altered.
    """
    place = folder / name
    if not (place / MANIFEST).is_file():
        raise DeployError(f"snapshot {place} is gone, or was not finished: its databases cannot be put back")
    try:
        document = json.loads((place / MANIFEST).read_text())
        content = dict(document["snapshot"])
        if content["format"] != FORMAT or digest_json(content) != document["digest"]:
            raise DeployError(f"{place / MANIFEST} was altered, or is of another version: nothing was changed")
        files = {name: StoredFile(**one) for name, one in content.pop("files").items()}
        snapshot = Snapshot(**content, files=files)
    except (KeyError, TypeError, ValueError) as error:
        raise DeployError(f"{place / MANIFEST} cannot be read ({error!r}): nothing was changed") from None
    for name, stated in files.items():
        if not (place / name).is_file() or digest_of(place / name) != stated:
            raise DeployError(f"{place / name} is missing or was altered: nothing was changed")
    return snapshot


def dump_files(folder: Path, name: str, databases: Sequence[str]) -> dict[str, Path]:
    """Dumps of a snapshot by database."""
    return {database: folder / name / "databases" / f"{database}.dump" for database in databases}


def names(folder: Path) -> list[str]:
    """Names of all snapshots, newest first."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}") if NAME.fullmatch(path.parent.name))[::-1]


def prune(folder: Path, keep: int, needed: Collection[str] = ()) -> list[str]:
    """Removes snapshots that are older than the newest `keep`, but those that are needed; gives their names."""
    old = [name for name in names(folder)[max(1, keep) :] if name not in needed]
    for name in old:
        (folder / name / MANIFEST).unlink()  # from now on it is none, whatever happens to the rest
        shutil.rmtree(folder / name)
    return old


def _home(back_up: Callable[[], Mapping[str, Any]] | None, seconds: dict[str, float]) -> Mapping[str, Any] | None:
    if back_up is None:
        return None
    began = perf_counter()
    home = back_up()
    seconds["home"] = round(perf_counter() - began, 2)
    return home
