from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
import pytest

from evergreen.lake import Lake
from evergreen.models.inputs import pinned
from evergreen.training.chunks import Chunks
from tests.shop import Shop, publish_purchases


def chunks_of(shop: Shop, folder, *, join=None, code: str = "code/1") -> Chunks:
    lake = Lake(shop.settings.lake_path)
    return Chunks(
        lake, pinned(lake, "features"), shop.settings.training, join or shop.join, folder=folder, code=code
    )  # fmt: skip


@pytest.fixture
def as_of(shop: Shop) -> date:
    return shop.day - timedelta(days=100)


def test_a_date_is_joined_once(shop, as_of, tmp_path):
    made = chunks_of(shop, tmp_path).of(as_of)

    def never(_entities: pd.DataFrame) -> pd.DataFrame:
        raise AssertionError("joined again")

    assert chunks_of(shop, tmp_path, join=never).of(as_of).equals(made)
    assert chunks_of(shop, None).of(as_of).equals(made)
    with pytest.raises(AssertionError, match="joined again"):  # the control: other code, other rows
        chunks_of(shop, tmp_path, join=never, code="code/2").of(as_of)


@pytest.mark.parametrize(
    ("days_after", "changes"),
    [(-366, False), (-365, True), (-1, True), (0, True), (27, True), (28, False), (60, False)],
)
def test_only_purchases_that_are_read_make_a_date_anew(shop, as_of, tmp_path, days_after, changes):
    before = chunks_of(shop, tmp_path).key(as_of)
    planted = pd.DataFrame(
        {"customer_id": ["c0"], "product_id": ["planted"], "day": [as_of + timedelta(days=days_after)]}
    )
    publish_purchases(shop.settings, pd.concat([shop.purchases, planted]), shop.day)
    assert (chunks_of(shop, tmp_path).key(as_of) != before) == changes


def test_a_damaged_file_is_made_again(shop, as_of, tmp_path):
    made = chunks_of(shop, tmp_path).of(as_of)
    (file,) = tmp_path.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    assert chunks_of(shop, tmp_path).of(as_of).equals(made)
    assert file.stat().st_size > 100


def test_what_nobody_asked_for_is_forgotten(shop, as_of, tmp_path):
    chunks_of(shop, tmp_path).of(as_of)
    later = chunks_of(shop, tmp_path)
    later.of(as_of + timedelta(days=7))
    later.forget_others()
    assert [file.stem for file in tmp_path.glob("*.parquet")] == [later.key(as_of + timedelta(days=7))]
