"""Features at pinned versions: what training and scoring read, through one door."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa

from evergreen.errors import FeatureStoreError, LakeError
from evergreen.lake import Lake, Release, latest_release
from evergreen.settings import Settings

SNAPSHOTS = ("customer_features", "product_features", "customer_factors", "product_factors")
"""Tables with a snapshot for each date that is read; those of factors are in a release only where they are made."""

Join = Callable[[pd.DataFrame], pd.DataFrame]
"""Entities (customer_id, product_id, as_of) to the same rows with features, in the same order."""


def pinned(lake: Lake, name: str) -> Release:
    """The newest release of a name.

    Raises:
        LakeError: there is none yet.
    """
    found = latest_release(lake, name)
    if found is None:
        raise LakeError(f"the lake has no release of {name}: publish {name} first")
    return found


def pinned_features(lake: Lake, day: date, as_ofs: Iterable[date]) -> Release:
    """The newest release of features, once it is known to hold what is read as of each date.

    Raises:
        LakeError: there is no release, it ends before `day`, or a snapshot is missing; names the date.
    """
    found = pinned(lake, "features")
    if found.day < day:
        raise LakeError(f"features are built up to {found.day}, {day} was asked for: build the features of {day} first")
    for name in SNAPSHOTS:
        if name not in found.versions:
            continue
        built = set(lake.table(name, found.versions[name]).days())
        for as_of in as_ofs:
            if as_of - timedelta(days=1) not in built:
                raise LakeError(f"{name} has no snapshot as of {as_of}: build the features of {day} first")
    return found


def feast_join(settings: Settings, release: Release, service: str) -> Join:
    """Feast's point-in-time join of a feature service at a release's versions."""

    def join(entities: pd.DataFrame) -> pd.DataFrame:
        from evergreen.features.store import historical_features  # Feast takes seconds to import

        return historical_features(settings, release.versions, entities, service)

    return join


def features_of(pairs: pa.Table, as_of: date, join: Join) -> pd.DataFrame:
    """Features of pairs as of a date, row by row.

    Raises:
        FeatureStoreError: the join lost, added or moved a row.
    """
    entities = pairs.select(["customer_id", "product_id"]).to_pandas()
    entities["as_of"] = as_of
    frame = join(entities)
    if len(frame) != len(entities):
        raise FeatureStoreError(f"the join as of {as_of} gave {len(frame)} rows for {len(entities)} pairs")
    for key in ("customer_id", "product_id"):
        if not (frame[key].to_numpy() == entities[key].to_numpy()).all():
            raise FeatureStoreError(f"the join as of {as_of} gave other pairs, or in another order ({key} differs)")
    return frame
