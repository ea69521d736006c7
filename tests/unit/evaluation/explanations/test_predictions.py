from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest

from evergreen.evaluation.explanations import predictions
from evergreen.evaluation.explanations.predictions import EXPLAINED_RANKS, with_reasons
from evergreen.settings import Settings

AS_OF = date(2024, 3, 1)


@pytest.fixture
def ranked(frame: pd.DataFrame) -> pa.Table:
    ranks = [number % 14 + 1 for number in range(140)]
    keys = frame.head(140)[["customer_id", "product_id"]]
    return pa.Table.from_pandas(keys.assign(rank=ranks), preserve_index=False)


def test_the_best_predictions_have_reasons_and_the_others_none(
    xgboost_bundle, frame: pd.DataFrame, ranked: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def pinned(_lake, day, as_ofs):
        asked.append((day, as_ofs))
        return SimpleNamespace(versions={})

    def join(entities: pd.DataFrame) -> pd.DataFrame:
        known = frame.head(140).drop_duplicates(["customer_id", "product_id"])
        return entities.merge(known.drop(columns="label"), on=["customer_id", "product_id"], how="left")

    monkeypatch.setattr(predictions, "pinned_features", pinned)
    monkeypatch.setattr(predictions, "CHUNK_ROWS", 33)
    found = with_reasons(Settings(), AS_OF, xgboost_bundle, ranked, 2, join=join)
    assert asked == [(AS_OF - timedelta(days=1), [AS_OF])]
    assert found.column_names == [*ranked.column_names, "reasons"]
    assert found.select(ranked.column_names).equals(ranked)
    for rank, text in zip(found["rank"].to_pylist(), found["reasons"].to_pylist(), strict=True):
        assert (text is None) == (rank > EXPLAINED_RANKS)
        if text is not None:
            assert 1 <= len(text.split("; ")) <= 2
            assert all(part[:2] in ("+ ", "- ") for part in text.split("; "))
