"""Which versions of the lake's tables must stay readable: vacuum frees the rest."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping

from evergreen.lake import Lake, latest_release
from evergreen.lake.schemas import TABLES
from evergreen.promotion.lineage import origins
from evergreen.settings import Settings
from evergreen.training.dataset import MANIFEST
from evergreen.training.register import registered_tables


def pinned_versions(settings: Settings) -> dict[str, set[int]]:
    """Versions of each table that somebody names, and those that they were made from.

    Named by: the newest release of each name (what readers read), registered models, training sets that are kept, and
    evidence, which is what the ledger's entries name.

    Raises:
        PromotionRefusedError: a table's log does not tell what a version was made from.
    """
    lake = Lake(settings.lake_path)
    newest = lake.versions()
    pins: defaultdict[str, set[int]] = defaultdict(set)
    for versions in _named(settings, lake):
        for table, version in versions.items():
            if version <= newest.get(table, -1):
                pins[table].add(int(version))
    for table, pinned in list(pins.items()):
        for made in origins(lake, table, pinned).values():
            for source, version in made.inputs.items():
                if source in TABLES and isinstance(version, int):
                    pins[source].add(version)
    return dict(pins)


def _named(settings: Settings, lake: Lake) -> Iterator[Mapping[str, int]]:
    for name in sorted(set(lake.table("releases").read(columns=["name"])["name"].to_pylist())):
        if release := latest_release(lake, name):
            yield release.versions
    yield from registered_tables(settings)
    for manifest in sorted((settings.home_path / "training_sets").glob(f"*/{MANIFEST}")):
        yield json.loads(manifest.read_text()).get("versions", {})
    for evidence in sorted((settings.home_path / "evidence").glob("*.json")):
        yield json.loads(evidence.read_text()).get("tables", {})
