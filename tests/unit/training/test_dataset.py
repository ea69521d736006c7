from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evergreen.errors import FeatureStoreError, LakeError, TrainingError
from evergreen.lake import Lake, release
from evergreen.training import dataset
from evergreen.training.dataset import HOLDOUT, INNER, TRAIN, StoredColumns, TrainingSet, build_training_set
from evergreen.training.splits import Split, split_customers
from tests.shop import Shop, publish_purchases


def build(shop: Shop, **keywords) -> TrainingSet:
    return build_training_set(
        shop.settings, keywords.pop("day", shop.day), join=keywords.pop("join", shop.join), **keywords
    )


def read(made: TrainingSet, name: str) -> pd.DataFrame:
    return pq.read_table(made.file(name)).to_pandas()


def expected_labels(shop: Shop, as_of: date) -> pd.Series:
    """The definition of unit and label, the slow and obvious way."""
    labels = {}
    for pair, days in shop.purchases.groupby(["customer_id", "product_id"])["day"]:
        if any(as_of - timedelta(days=365) <= day < as_of for day in days):
            labels[pair] = int(any(as_of <= day < as_of + timedelta(days=28) for day in days))
    return pd.Series(labels).sort_index()


def test_units_and_labels_are_those_of_the_definition(shop):
    made = build(shop)
    trained = pd.concat([read(made, TRAIN), read(made, INNER)])
    assert sorted(set(trained["as_of"])) == list(made.as_ofs)
    for as_of, rows in [*trained.groupby("as_of"), (made.holdout, read(made, HOLDOUT))]:
        found = rows.set_index(["customer_id", "product_id"])["label"].sort_index()
        pd.testing.assert_series_equal(found, expected_labels(shop, as_of), check_names=False, check_dtype=False)
        assert 0 < found.mean() < 1


def test_features_are_those_that_the_join_gave_as_float32(shop):
    made = build(shop)
    assert made.features == [
        ("pair_recency_days", "number"),
        ("pair_purchases", "number"),
        ("country", "category"),
        ("product_buyers_90d", "number"),
    ]
    held = read(made, HOLDOUT)
    joined = shop.join(held[["customer_id", "product_id"]].assign(as_of=made.holdout))
    for name in ("pair_recency_days", "pair_purchases", "product_buyers_90d"):
        assert held[name].dtype == np.float32
        np.testing.assert_array_equal(held[name], joined[name].astype(np.float32))
    assert held["country"].tolist() == joined["country"].tolist()


def test_rows_are_sorted_and_customers_are_kept_apart(shop):
    made = build(shop)
    for name in (TRAIN, INNER, HOLDOUT):
        keys = read(made, name)[["as_of", "customer_id", "product_id"]]
        pd.testing.assert_frame_equal(keys, keys.sort_values(list(keys)).reset_index(drop=True))
    inner, trained = read(made, INNER), set(read(made, TRAIN)["customer_id"])
    for split in (Split.EARLY_STOPPING, Split.SELECTION):
        customers = set(inner.loc[inner["split"] == split.value, "customer_id"])
        assert customers
        assert not customers & trained
        assert set(split_customers(np.array(sorted(customers), object), shop.settings.training)) == {split.value}
    assert trained < set(read(made, HOLDOUT)["customer_id"])  # the holdout has all


def test_customers_held_out_are_read_as_of_the_newest_dates_alone(shop):
    whole = build(shop)
    assert whole.inner_as_ofs == whole.as_ofs
    training = shop.settings.training.model_copy(update={"inner_steps": 2})
    cut = build(replace(shop, settings=shop.settings.model_copy(update={"training": training})))
    assert cut.digest != whole.digest
    assert sorted(set(read(cut, INNER)["as_of"])) == list(cut.inner_as_ofs) == list(whole.as_ofs[-2:])
    pd.testing.assert_frame_equal(read(cut, TRAIN), read(whole, TRAIN))
    assert build(shop).digest == whole.digest  # neither is taken for the other


def test_the_manifest_counts_what_is_there(shop):
    made = build(shop)
    inner = read(made, INNER)
    assert made.rows["train"] == len(read(made, TRAIN))
    assert made.rows["selection"] == (inner["split"] == "selection").sum()
    assert made.manifest["positives"]["early_stopping"] == inner.loc[inner["split"] == "early_stopping", "label"].sum()
    assert made.manifest["positives"]["holdout"] == read(made, HOLDOUT)["label"].sum()
    assert made.versions == {"pair_features": 1}
    assert made.manifest["steps"] == {"wanted": 8, "taken": 4}
    summary = json.loads(json.dumps(made.summary()))
    assert summary["digest"] == made.digest
    assert summary["features"] == 4
    assert made.day == shop.day


def test_the_second_call_reads_nothing(shop, monkeypatch):
    made = build(shop)

    def never(*_):
        raise AssertionError("this work was done before")

    monkeypatch.setattr(dataset, "_write", never)
    again = build(shop, join=never)
    assert again == made
    monkeypatch.undo()
    assert {path.name for path in made.folder.parent.iterdir()} == {made.digest, "index"}


def test_the_same_content_has_the_same_digest_whatever_was_kept(shop):
    made = build(shop)
    shutil.rmtree(made.folder.parent)
    again = build(shop)
    assert again.digest == made.digest
    assert again.manifest["files"] == made.manifest["files"]


def test_a_damaged_set_is_built_again(shop):
    made = build(shop)
    made.file(TRAIN).write_bytes(b"torn")
    again = build(shop)
    assert again.digest == made.digest
    assert len(read(again, TRAIN)) == made.rows["train"]


def test_another_feature_value_is_another_set(shop):
    first = build(shop)
    lake = Lake(shop.settings.lake_path)
    release(lake, "features", day=shop.day, digest="other", versions=first.versions, inputs={})

    def join(entities):
        frame = shop.join(entities)
        frame.loc[0, "pair_purchases"] += 1
        return frame

    assert build(shop, join=join).digest != first.digest


def test_a_purchase_at_as_of_changes_labels_alone(shop):
    """What happens at the holdout's `as_of` or after it may be a label, never a feature."""
    made = build(shop)
    before = read(made, HOLDOUT)
    pair = before.loc[before["label"] == 0].iloc[0]
    planted = pd.DataFrame([(pair["customer_id"], pair["product_id"], made.holdout)], columns=shop.purchases.columns)
    shop.purchases = pd.concat([shop.purchases, planted])
    publish_purchases(shop.settings, shop.purchases, shop.day)
    after = read(build(shop), HOLDOUT)
    pd.testing.assert_frame_equal(after.drop(columns="label"), before.drop(columns="label"))
    assert (after["label"] - before["label"]).sum() == 1
    pd.testing.assert_frame_equal(read(build(shop), TRAIN), read(made, TRAIN))


def test_immature_labels_are_never_built(shop):
    lake = Lake(shop.settings.lake_path)
    late = shop.day + timedelta(days=1)
    release(lake, "features", day=late, digest="x", versions={"pair_features": 1}, inputs={})
    with pytest.raises(TrainingError, match=f"need every day up to {late}, the newest ingested day is {shop.day}"):
        build(shop, day=late)
    assert build(shop).holdout == shop.day + timedelta(days=1 - 28)  # control: a day earlier all is mature


def test_a_day_that_is_not_built_is_refused(shop):
    from tests.shop import publish_days

    lake = Lake(shop.settings.lake_path)
    late = shop.day + timedelta(days=1)
    empty = lake.table("transactions").spec.file_schema.empty_table()
    version = publish_days(lake, "transactions", {late: empty})
    release(lake, "transactions", day=late, digest="y", versions={"transactions": version}, inputs={})
    with pytest.raises(LakeError, match=f"features are built up to {shop.day}, {late} was asked for"):
        build(shop, day=late)


def test_a_missing_snapshot_is_named(shop):
    from tests.shop import publish_days

    lake = Lake(shop.settings.lake_path)
    made = build(shop)
    schema = lake.table("customer_features").spec.file_schema
    days = {as_of - timedelta(days=1): schema.empty_table() for as_of in made.as_ofs}
    version = publish_days(lake, "customer_features", days)
    versions = {**made.versions, "customer_features": version}
    release(lake, "features", day=shop.day, digest="z", versions=versions, inputs={})
    with pytest.raises(LakeError, match=f"customer_features has no snapshot as of {made.holdout}"):
        build(shop)


def test_an_empty_lake_says_what_to_publish(settings):
    with pytest.raises(LakeError, match="no release of transactions"):
        build_training_set(settings, date(2024, 5, 1))


def lose_a_row(frame):
    return frame.iloc[1:]


def swap_rows(frame):
    return frame.iloc[::-1].reset_index(drop=True)


@pytest.mark.fault
@pytest.mark.parametrize(("break_it", "message"), [(lose_a_row, "rows for"), (swap_rows, "another order")])
def test_a_join_that_loses_or_moves_rows_stops_the_build(shop, break_it, message):
    with pytest.raises(FeatureStoreError, match=message):
        build(shop, join=lambda entities: break_it(shop.join(entities)))
    root = shop.settings.home_path / "training_sets"
    assert list(root.iterdir()) == []  # nothing half-written
    assert build(shop).rows["train"] > 0  # control


def test_a_join_without_a_known_feature_is_refused(shop):
    with pytest.raises(TrainingError, match="no feature"):
        build(shop, join=lambda entities: entities.assign(mystery=1.0))


@pytest.mark.fault
def test_an_altered_set_is_not_opened(shop):
    made = build(shop)
    TrainingSet.open(made.folder, made.digest)  # control
    with pytest.raises(TrainingError, match="expected 000000"):
        TrainingSet.open(made.folder, "0" * 64)
    content = bytearray(made.file(INNER).read_bytes())
    content[len(content) // 2] ^= 1
    made.file(INNER).write_bytes(bytes(content))
    with pytest.raises(TrainingError, match=r"inner\.parquet was altered"):
        TrainingSet.open(made.folder)
    made.file(INNER).unlink()
    with pytest.raises(TrainingError, match=r"inner\.parquet is missing"):
        TrainingSet.open(made.folder)
    manifest = json.loads(made.file("manifest.json").read_text())
    manifest["content"]["horizon_days"] = 1
    made.file("manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=r"manifest\.json was altered"):
        TrainingSet.open(made.folder)
    made.file("manifest.json").write_text("{}")
    with pytest.raises(TrainingError, match="cannot be read"):
        TrainingSet.open(made.folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, None], "1 of 3 labels are missing"),
        ([0.0, 1.0, float("nan")], "1 of 3 labels are missing"),
        ([0, 0, 0], "all 3 labels are 0"),
        ([1, 1, 1], "all 3 labels are 1"),
        ([0, 1, 2], "labels from 0 to 2 were seen, must be 0 or 1"),
        (pa.array([], pa.int8()), "there is no row"),
    ],
)
def test_labels_that_teach_nothing_are_refused(labels, message, tmp_path):
    pq.write_table(pa.table({"label": labels}), tmp_path / "x.parquet")
    with pytest.raises(TrainingError, match=message):
        StoredColumns(tmp_path / "x.parquet").labels()


def test_stored_columns_are_a_mapping_of_one_column_at_a_time(shop):
    made = build(shop)
    stored = StoredColumns(made.file(INNER), Split.SELECTION)
    assert stored.rows == made.rows["selection"]
    assert len(stored["country"]) == stored.rows
    assert set(stored) >= {"country", "label", "pair_purchases"}
    assert len(stored) == 9
    with pytest.raises(KeyError):
        stored["nope"]
