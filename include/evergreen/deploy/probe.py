"""`python -m evergreen.deploy.probe`: what a deployment is made of and holds, as one line of JSON that can be compared.

Runs in a worker, which has the code, the packages, the home and the way to the ledger.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import distributions
from typing import Any

from evergreen import __version__
from evergreen.backup.contents import newest_releases
from evergreen.errors import EvergreenError
from evergreen.lake import Lake
from evergreen.promotion import audit, champion
from evergreen.promotion.champion import bundle_folder
from evergreen.settings import Settings, load_settings
from evergreen.settings.tree import PROJECT
from evergreen.training.provenance import lock_digest


def probe(settings: Settings) -> dict[str, Any]:
    """What is there.

    Returns:
        version; code, lock and packages (digests of the sources, of the locks and of what is installed); champion
        (version and bundle digest, None before the first) and its generation; bundle (`whole`, or why it cannot be
        loaded); earlier (versions that can be gone back to, newest first); barred (versions); releases (name -> digest
        of the newest); ledger (`unbroken`, or what was changed).
    """
    lake = Lake(settings.lake_path)
    present = champion.current(settings)
    found = audit.verify(settings)
    return {
        "version": __version__,
        "code": _code(),
        "lock": lock_digest(),
        "packages": _packages(),
        "champion": [present.version, present.bundle_digest] if present else None,
        "generation": present.generation if present else 0,
        "earlier": _earlier(settings, present.version if present else ""),
        "bundle": _bundle(settings),
        "barred": sorted(champion.barred(settings)),
        "releases": {name: one.digest for name, one in newest_releases(lake).items()} if _has_releases(lake) else {},
        "ledger": found.problems[0] if found.problems else "unbroken",
    }


def _code() -> str:
    """SHA-256 of all sources of the package."""
    hasher = hashlib.sha256()
    for file in sorted((PROJECT / "include").rglob("*.py")):
        hasher.update(f"{file.relative_to(PROJECT).as_posix()}\0".encode() + file.read_bytes())
    return hasher.hexdigest()


def _packages() -> str:
    """SHA-256 of names and versions of what is installed."""
    names = sorted({f"{one.name}=={one.version}" for one in distributions()})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _bundle(settings: Settings) -> str:
    from evergreen.models.bundle import load_bundle

    present = champion.current(settings)
    if present is None:
        return "none"
    try:
        load_bundle(bundle_folder(settings, present.bundle_digest), present.bundle_digest)
    except EvergreenError as error:
        return str(error)
    return "whole"


def _earlier(settings: Settings, present: str) -> list[str]:
    barred = champion.barred(settings)
    versions = dict.fromkeys(one.version for one in champion.history(settings))
    return [version for version in versions if version != present and version not in barred]


def _has_releases(lake: Lake) -> bool:
    return "releases" in lake.versions()


def main() -> int:
    """Prints the line."""
    print(json.dumps(probe(load_settings())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
