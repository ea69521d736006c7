"""Whether a backup is whole: every digest, and that what it holds works together as a home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from evergreen.backup.contents import newest_releases
from evergreen.backup.ledger_rows import import_rows, read_rows
from evergreen.backup.manifest import HOME, MANIFEST, Manifest, digest_of, read_manifest
from evergreen.backup.steps import Steps
from evergreen.errors import BackupError
from evergreen.lake import Lake
from evergreen.promotion import audit, champion
from evergreen.promotion.champion import bundle_folder
from evergreen.settings import Settings


def verify(settings: Settings, folder: Path, steps: Steps | None = None) -> Manifest:
    """Checks every digest of a backup, then its ledger's chain, its champion and its releases.

    Raises:
        BackupError: naming the first file that is missing, altered or too many, and how many are.
        LedgerError: the chain of the ledger in it does not hold.
        BundleError: its champion's bundle cannot be loaded.
    """
    steps = steps or Steps()
    with steps.step("digests") as step:
        manifest = read_manifest(folder)
        if problems := list(_problems(folder, manifest)):
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise BackupError(f"backup {folder}: {problems[0]}{more}. Expected what its manifest says: use another one")
        step.detail = f"{len(manifest.files):,} files, {manifest.size / 1e6:,.1f} MB"
    with as_home(settings, folder, manifest.lake) as home:
        check_home(home, manifest, steps)
    return manifest


def standing_alone(settings: Settings, home: Path, lake: str) -> Settings:
    """Settings for a home that has its databases in itself, whatever servers the profile has."""
    return settings.model_copy(
        update={
            "home": home,
            "lake": settings.lake.model_copy(update={"location": lake}),
            "promotion": settings.promotion.model_copy(update={"ledger_url": ""}),
            "mlflow": settings.mlflow.model_copy(update={"tracking_uri": ""}),
            "feature_store": settings.feature_store.model_copy(update={"registry_url": "", "online_url": ""}),
        }
    )


@contextmanager
def as_home(settings: Settings, folder: Path, lake: str) -> Iterator[Settings]:
    """A backup seen as a home: its files where they lie, its ledger in a database for as long as this lasts."""
    with TemporaryDirectory(prefix="evergreen-backup-") as temporary:
        home = Path(temporary) / "home"
        home.mkdir()
        for path in (folder / HOME).iterdir():
            (home / path.name).symlink_to(path.absolute())
        seen = standing_alone(settings, home, lake)
        import_rows(seen, read_rows(folder))
        yield seen


def check_home(settings: Settings, manifest: Manifest, steps: Steps, which: str = "") -> None:
    """Checks that a home is what a backup's manifest says: ledger, champion and its bundle, every release's files.

    Args:
        settings: of the home.
        manifest: what it must be.
        steps: is told what is done.
        which: stands before the steps' names.

    Raises:
        BackupError, LedgerError, BundleError: naming what is not.
    """
    with steps.step(f"{which}ledger") as step:
        found = audit.verify(settings)
        found.raise_if_broken()
        seen = {"entries": found.entries, "head": found.head}
        if seen != manifest.ledger:
            raise BackupError(f"the ledger has {seen}, expected {manifest.ledger}: use another backup")
        step.detail = f"{found.entries} entries, unbroken"
    with steps.step(f"{which}champion") as step:
        step.detail = _check_champion(settings, manifest)
    with steps.step(f"{which}lake") as step:
        files = _check_lake(Lake(settings.lake_path), manifest)
        step.detail = f"{len(manifest.tables)} tables, {len(manifest.releases)} releases, {files:,} files read"


def champion_of(settings: Settings) -> dict[str, Any] | None:
    """The champion as a manifest names it."""
    found = champion.current(settings)
    if found is None:
        return None
    return {
        "version": found.version,
        "generation": found.generation,
        "bundle_digest": found.bundle_digest,
        "evidence_digest": found.evidence_digest,
        "data_day": str(found.data_day),
    }


def without_bundle(settings: Settings) -> list[str]:
    """Digests of earlier champions whose bundles are not in a home."""
    digests = dict.fromkeys(one.bundle_digest for one in champion.history(settings)[1:])
    return [digest for digest in digests if not bundle_folder(settings, digest).is_dir()]


def _check_champion(settings: Settings, manifest: Manifest) -> str:
    from evergreen.models.bundle import load_bundle

    seen = champion_of(settings)
    if seen != manifest.champion:
        raise BackupError(f"the champion is {seen}, expected {manifest.champion}: use another backup")
    if seen is None:
        return "none yet"
    load_bundle(bundle_folder(settings, seen["bundle_digest"]), seen["bundle_digest"])
    missing = [digest for digest in without_bundle(settings) if f"bundle {digest}" not in _left_out(manifest)]
    if missing:
        raise BackupError(f"the bundle {missing[0][:12]} of an earlier champion is missing: use another backup")
    return f"version {seen['version']}, bundle {seen['bundle_digest'][:12]}"


def _check_lake(lake: Lake, manifest: Manifest) -> int:
    """Opens every table at its newest version and at those that releases name; gives the number of files read."""
    versions = {name: {version} for name, version in manifest.tables.items()}
    for release in manifest.releases.values():
        for name, version in release["versions"].items():
            versions[name].add(version)
    newest = lake.versions()
    if newest != dict(manifest.tables):
        raise BackupError(f"the lake's tables are at {newest}, expected {dict(manifest.tables)}: use another backup")
    seen = {name: one.digest for name, one in newest_releases(lake).items()}
    if seen != (wanted_releases := {name: release["digest"] for name, release in manifest.releases.items()}):
        raise BackupError(f"the lake's releases are {seen}, expected {wanted_releases}: use another backup")
    read: set[Path] = set()
    for name, wanted in versions.items():
        for version in wanted:
            table = lake.table(name, version)
            for file in table.files:
                path = table.root / file.path
                if path not in read and _rows(path) != file.rows:
                    raise BackupError(f"{path} does not hold the {file.rows} rows of {file.day}: use another backup")
                read.add(path)
    return len(read)


def _rows(path: Path) -> int:
    try:
        return int(pq.ParquetFile(path).metadata.num_rows)
    except (OSError, ValueError) as error:
        raise BackupError(f"{path} cannot be read ({error}): expected a file of the lake. Use another backup") from None


def _left_out(manifest: Manifest) -> set[str]:
    return {one["what"] for one in manifest.left_out}


def _problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name, stated in manifest.files.items():
        path = folder / name
        if not path.is_file():
            yield f"file {name} is missing"
        elif digest_of(path) != stated:
            yield f"file {name} was altered"
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    yield from (f"file {name} is not in its manifest" for name in sorted(present - set(manifest.files) - {MANIFEST}))
