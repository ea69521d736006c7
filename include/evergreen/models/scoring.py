"""Batch scoring: every active pair as of a day, its probability, and its rank for the customer."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evergreen.lake import Lake, Release, begin, seal, stage_days
from evergreen.lake.releases import releases
from evergreen.lake.schemas import PREDICTIONS
from evergreen.lake.staged_set import StagedSet, publish_set
from evergreen.lake.staging import new_attempt
from evergreen.models.bundle import Bundle
from evergreen.models.inputs import Join, feast_join, features_of, pinned_features
from evergreen.models.pairs import active_pairs
from evergreen.settings import Settings

TRANSFORM = "predictions/1"
CHUNK_ROWS = 500_000
NAME = "predictions"


def score_pairs(
    settings: Settings, as_of: date, bundle: Bundle, *, model_version: str, join: Join | None = None
) -> pa.Table:
    """Every active pair with its probability and rank, sorted by customer and product.

    Args:
        settings: lake and feature store.
        as_of: nothing at or after it is read.
        bundle: the model.
        model_version: what to write into the column of that name.
        join: gives features for entities; default: Feast's point-in-time join at the newest release's versions.

    Returns:
        customer_id, product_id, probability (float64), rank (int32, 1 = most likely), model_version.

    Raises:
        LakeError: features are not built up to the day before `as_of`.
        FeatureStoreError: a join lost, added or moved rows.
        BundleError: the features lack one that the model needs.
    """
    lake = Lake(settings.lake_path)
    release = pinned_features(lake, as_of - timedelta(days=1), [as_of])
    return _score(settings, lake, release, as_of, bundle, model_version, join)


def publish_predictions(
    settings: Settings, as_of: date, bundle: Bundle, *, model_version: str, run_id: str = "", join: Join | None = None
) -> dict[str, Any]:
    """Scores and publishes one day of the table `predictions`; the same features and model publish nothing new.

    Returns:
        JSON: that of `publish_set`, with `as_of`, `model_version`, `bundle_digest` and `scored` (rows of the day).
    """
    lake = Lake(settings.lake_path)
    day = as_of - timedelta(days=1)
    features = pinned_features(lake, day, [as_of])
    inputs = {
        "as_of": str(as_of),
        "features": features.digest,
        "bundle": bundle.digest,
        "model_version": model_version,
        "transform": TRANSFORM,
    }
    facts = {"as_of": str(as_of), "model_version": model_version, "bundle_digest": bundle.digest}
    if done := _released(lake, as_of, inputs):
        return facts | {
            "name": NAME,
            "day": str(day),
            "digest": done.digest,
            "versions": dict(done.versions),
            "changed_days": 0,
            "rows": 0,
            "earliest_changed": None,
            "unchanged": True,
            "release": done.sequence,
            "scored": read_predictions(lake, as_of).num_rows,
        }
    attempt = new_attempt()
    begin(lake, NAME, attempt)
    scored = _score(settings, lake, features, as_of, bundle, model_version, join)
    stage_days(lake, NAME, attempt, [(day, scored)])
    staged = seal(lake, NAME, attempt, start=day, end=day, transform=TRANSFORM, inputs=inputs)
    published = publish_set(lake, StagedSet(NAME, day, day, day, (staged,), inputs), run_id=run_id)
    return facts | published | {"scored": scored.num_rows}


def read_predictions(lake: Lake, as_of: date) -> pa.Table:
    """The published predictions as of a day: customer_id, product_id, probability, rank, model_version."""
    day = as_of - timedelta(days=1)
    return lake.table(NAME).read(day, day, PREDICTIONS.file_schema.names)


def write_predictions(table: pa.Table, file: Path) -> Path:
    """Writes predictions as one Parquet file, in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    pq.write_table(table, draft, compression="zstd")
    return draft.replace(file)


def rank_within(
    customers: npt.NDArray[Any], products: npt.NDArray[Any], probabilities: npt.NDArray[np.float64]
) -> npt.NDArray[np.int32]:
    """Rank of each row among its customer's: 1 has the highest probability, equal ones are ranked by product."""
    customer_codes = pd.factorize(customers)[0]
    product_codes = pd.factorize(products, sort=True)[0]
    order = np.lexsort((product_codes, -probabilities, customer_codes))
    sorted_customers = customer_codes[order]
    starts = np.r_[True, sorted_customers[1:] != sorted_customers[:-1]] if len(order) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order)) - first + 1
    return ranks


def _score(
    settings: Settings,
    lake: Lake,
    release: Release,
    as_of: date,
    bundle: Bundle,
    model_version: str,
    join: Join | None,
) -> pa.Table:
    table = lake.table("pair_features", release.versions["pair_features"])
    pairs = active_pairs(table, as_of, settings.training.active_days)
    join = join or feast_join(settings, release, str(bundle.manifest["service"]))
    chunks = [pairs.slice(start, CHUNK_ROWS) for start in range(0, pairs.num_rows, CHUNK_ROWS)]
    scores = [bundle.predict(features_of(chunk, as_of, join)) for chunk in chunks]
    probabilities = np.concatenate(scores) if scores else np.zeros(0)
    ranks = rank_within(pairs["customer_id"].to_numpy(), pairs["product_id"].to_numpy(), probabilities)
    return pa.table(
        {
            "customer_id": pairs["customer_id"],
            "product_id": pairs["product_id"],
            "probability": probabilities,
            "rank": ranks,
            "model_version": pa.array([model_version] * pairs.num_rows, pa.string()),
        },
        schema=PREDICTIONS.file_schema,
    )


def _released(lake: Lake, as_of: date, inputs: dict[str, str]) -> Release | None:
    """The release that published this `as_of` last, if it was made from the same inputs."""
    of_day = [one for one in releases(lake, NAME) if one.inputs.get("as_of") == str(as_of)]
    return of_day[-1] if of_day and dict(of_day[-1].inputs) == inputs else None
