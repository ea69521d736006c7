"""Reasons beside predictions: why a customer's best products stand where they stand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evergreen.evaluation.explanations.attribution import attribute_rows, drawn
from evergreen.evaluation.explanations.reasons import reasons
from evergreen.lake import Lake
from evergreen.models.bundle import Bundle
from evergreen.models.inputs import Join, feast_join, features_of, pinned_features
from evergreen.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from evergreen.evaluation.explanations.reasons import Reason

EXPLAINED_RANKS = 10  # a customer's best products: nobody looks further down
CHUNK_ROWS = 50_000
COLUMN = "reasons"


def with_reasons(
    settings: Settings, as_of: date, bundle: Bundle, predictions: pa.Table, most: int, *, join: Join | None = None
) -> pa.Table:
    """Predictions with a column `reasons`: text for ranks up to 10, null below.

    A reason begins with `+` where it makes the purchase likelier, with `-` where it does not; they are separated by
    `; `, strongest first.

    Args:
        settings: lake, feature store, sampling.
        as_of: that of the predictions.
        bundle: the model that made them.
        predictions: customer_id, product_id, rank and more, as `evergreen.models.scoring.score_pairs` gives them.
        most: reasons a prediction.
        join: see `score_pairs`.

    Raises:
        LakeError, FeatureStoreError, BundleError: as `score_pairs`.
    """
    texts: list[str | None] = [None] * predictions.num_rows
    rows = np.flatnonzero(pc.less_equal(predictions["rank"], EXPLAINED_RANKS).to_numpy(zero_copy_only=False))
    release = pinned_features(Lake(settings.lake_path), as_of - timedelta(days=1), [as_of])
    join = join or feast_join(settings, release, str(bundle.manifest["service"]))
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        told = tell(bundle, features_of(predictions.take(pa.array(chunk)), as_of, join), settings, most)
        for row, of_row in zip(chunk, told, strict=True):
            texts[row] = "; ".join(f"{'+' if reason.raises else '-'} {reason.text}" for reason in of_row)
    return predictions.append_column(COLUMN, pa.array(texts, pa.string()))


def tell(bundle: Bundle, frame: pd.DataFrame, settings: Settings, most: int) -> list[list[Reason]]:
    """The strongest reasons of each row of features; the rows themselves stand for "nothing is known"."""
    rules = settings.evaluation.explanations
    background = frame.iloc[drawn(len(frame), rules.background_rows, rules.seed)]
    return reasons(attribute_rows(bundle, frame, background, rules.seed), np.arange(len(frame)), most)
