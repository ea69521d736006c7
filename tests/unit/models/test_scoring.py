from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.errors import BundleError, LakeError
from evergreen.jobs import score_batch
from evergreen.lake import Lake, release
from evergreen.models import scoring
from evergreen.models.bundle import load_bundle
from evergreen.models.scoring import publish_predictions, rank_within, read_predictions, score_pairs
from evergreen.training.spec import TrainSpec
from evergreen.training.trainer import train


@pytest.fixture(scope="module")
def bundle_folder(filled_training_set, tmp_path_factory):
    spec = TrainSpec(
        candidate="xgboost",
        model="xgboost",
        params={"rounds": 15, "max_depth": 3, "min_child_weight": 1.0},
        seed=1,
        training_set={"folder": filled_training_set.folder, "digest": filled_training_set.digest},
        model_name="buy-it-again",
    )
    folder = tmp_path_factory.mktemp("bundle") / "xgboost"
    train(spec, folder)
    return folder


@pytest.fixture
def bundle(bundle_folder):
    return load_bundle(bundle_folder)


def test_every_active_pair_is_scored_and_ranked(shop, bundle):
    as_of = shop.day + timedelta(days=1)
    scored = score_pairs(shop.settings, as_of, bundle, model_version="3", join=shop.join).to_pandas()
    pairs = shop.purchases[["customer_id", "product_id"]].drop_duplicates()
    assert set(map(tuple, scored[["customer_id", "product_id"]].to_numpy())) == set(map(tuple, pairs.to_numpy()))
    entities = scored[["customer_id", "product_id"]].assign(as_of=as_of)
    np.testing.assert_array_equal(scored["probability"], bundle.predict(shop.join(entities)))
    for _, rows in scored.groupby("customer_id"):
        ordered = rows.sort_values(["probability", "product_id"], ascending=[False, True])
        assert ordered["rank"].tolist() == list(range(1, len(rows) + 1))
    assert set(scored["model_version"]) == {"3"}


def test_chunks_do_not_change_a_score(shop, bundle, monkeypatch):
    as_of = shop.day + timedelta(days=1)
    whole = score_pairs(shop.settings, as_of, bundle, model_version="3", join=shop.join)
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 37)
    assert score_pairs(shop.settings, as_of, bundle, model_version="3", join=shop.join).equals(whole)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyzuvw"), st.sampled_from([0.1, 0.2])),
        max_size=18,
        unique_by=lambda row: row[:2],
    )
)
def test_ranks_are_those_of_a_stable_sort(rows):
    frame = pd.DataFrame(rows, columns=["customer", "product", "probability"])
    found = rank_within(
        frame["customer"].to_numpy(object), frame["product"].to_numpy(object), frame["probability"].to_numpy(np.float64)
    )
    ordered = sorted(rows, key=lambda row: (row[0], -row[2], row[1]))
    expected = [sum(1 for other in ordered[: ordered.index(row)] if other[0] == row[0]) + 1 for row in rows]
    assert found.tolist() == expected


def test_a_day_is_published_once_for_the_same_features_and_model(shop, bundle, monkeypatch):
    as_of = shop.day + timedelta(days=1)
    lake = Lake(shop.settings.lake_path)
    first = publish_predictions(shop.settings, as_of, bundle, model_version="1", join=shop.join)
    assert not first["unchanged"]
    assert first["scored"] == lake.table("predictions").rows == first["rows"]
    assert lake.table("predictions").days() == [shop.day]
    assert read_predictions(lake, as_of).num_rows == first["scored"]

    def never(_):
        raise AssertionError("scored before")

    again = publish_predictions(shop.settings, as_of, bundle, model_version="1", join=never)
    assert again["unchanged"]
    assert set(again) == set(first)
    assert {key: again[key] for key in ("digest", "versions", "scored")} == {
        key: first[key] for key in ("digest", "versions", "scored")
    }
    other = publish_predictions(shop.settings, as_of, bundle, model_version="2", join=shop.join)
    assert not other["unchanged"]
    back = publish_predictions(shop.settings, as_of, bundle, model_version="1", join=shop.join)
    assert not back["unchanged"]  # what stands there now is version 2's
    assert set(read_predictions(lake, as_of)["model_version"].to_pylist()) == {"1"}


def test_the_job_publishes_and_writes_the_file(shop, bundle_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "feast_join", lambda *_: shop.join)
    as_of = shop.day + timedelta(days=1)
    out = tmp_path / "deep" / "scores.parquet"
    arguments = ["--as-of", str(as_of), "--bundle", str(bundle_folder), "--model-version", "7", "--out", str(out)]
    assert score_batch.main([*arguments, "--result", str(tmp_path / "result.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (tmp_path / "result.json").read_text()
    written = pq.read_table(out)
    assert written.column_names == ["customer_id", "product_id", "probability", "rank", "model_version"]
    assert written.equals(read_predictions(Lake(shop.settings.lake_path), as_of))
    assert score_batch.main([*arguments, "--digest", "0" * 64]) == 1
    assert "expected 000000" in capsys.readouterr().err


def test_a_day_without_features_is_refused(shop, bundle):
    with pytest.raises(LakeError, match=f"features are built up to {shop.day}"):
        score_pairs(shop.settings, shop.day + timedelta(days=2), bundle, model_version="1", join=shop.join)


def test_no_purchases_in_reach_is_an_error_that_names_the_days(shop, bundle):
    lake = Lake(shop.settings.lake_path)
    late = shop.day + timedelta(days=500)
    release(lake, "features", day=late, digest="q", versions={"pair_features": 1}, inputs={})
    with pytest.raises(LakeError, match="table pair_features has no day from"):
        score_pairs(shop.settings, late, bundle, model_version="1", join=shop.join)


def test_features_that_lack_one_of_the_models_are_refused(shop, bundle):
    def join(entities):
        return shop.join(entities).drop(columns="country")

    with pytest.raises(BundleError, match="needs feature 'country'"):
        score_pairs(shop.settings, shop.day + timedelta(days=1), bundle, model_version="1", join=join)
