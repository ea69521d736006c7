from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from evergreen.lake import Lake, release
from evergreen.lake.maintenance import vacuum
from evergreen.lake.publish import publish
from evergreen.lake.staging import begin, new_attempt, seal, stage_days
from evergreen.promotion import pins
from evergreen.promotion.pins import pinned_versions
from evergreen.training.dataset import TrainingSet, build_training_set
from tests.shop import Shop


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Table versions of registered models; the registry itself is tested with `register`."""
    found: list[dict[str, int]] = []
    monkeypatch.setattr(pins, "registered_tables", lambda _: found)
    return found


@pytest.fixture
def training_set(shop: Shop) -> TrainingSet:
    return build_training_set(shop.settings, shop.day, join=shop.join)


@pytest.fixture
def rewritten(shop: Shop) -> Callable[[str], int]:
    """Corrects a table and releases that: nobody reads the version before it any more, which it gives."""

    def rewrite(name: str) -> int:
        lake = Lake(shop.settings.lake_path)
        table = lake.table(name)
        attempt, day = new_attempt(), table.days()[-1]
        begin(lake, name, attempt)
        stage_days(lake, name, attempt, [(day, table.read(day, day).slice(0, 1))])
        inputs = {"transactions": lake.versions()["transactions"]} if name != "transactions" else {}
        publish(lake, seal(lake, name, attempt, start=day, end=day, transform="test", inputs=inputs))
        now = {name: Lake(shop.settings.lake_path).versions()[name]}
        release(lake, "features", day=shop.day, digest="corrected", versions=now, inputs={})
        assert table.version is not None
        return table.version

    return rewrite


def test_an_empty_lake_pins_nothing(settings):
    assert pinned_versions(settings) == {}


def test_the_newest_releases_are_pinned_with_what_they_were_made_from(shop):
    found = pinned_versions(shop.settings)
    newest = Lake(shop.settings.lake_path).versions()
    assert found["pair_features"] == {newest["pair_features"]}
    assert newest["transactions"] in found["transactions"]


def test_a_kept_training_set_stays_reproducible_and_its_removal_frees_it(shop, training_set, rewritten):
    """Whatever was corrected since: vacuum with these pins leaves every version that the training set read."""
    lake = Lake(shop.settings.lake_path)
    old = rewritten("pair_features")
    assert training_set.versions["pair_features"] == old
    assert old in pinned_versions(shop.settings)["pair_features"]
    vacuum(lake, pinned_versions(shop.settings), retention_days=0)
    before = lake.table("pair_features", old).read().num_rows
    shutil.rmtree(training_set.folder)  # control: nothing else holds it
    assert old not in pinned_versions(shop.settings)["pair_features"]
    vacuum(lake, {}, retention_days=0)
    with pytest.raises(FileNotFoundError):
        lake.table("pair_features", old).read()
    assert before > 0


@pytest.mark.parametrize("named_by", ["registry", "evidence"])
def test_registered_models_and_evidence_hold_versions(shop, rewritten, registered, named_by):
    old = rewritten("pair_features")
    assert old not in pinned_versions(shop.settings)["pair_features"]  # control
    if named_by == "registry":
        registered.append({"pair_features": old})
    else:
        folder = shop.settings.home_path / "evidence"
        folder.mkdir()
        (folder / "abc.json").write_text(json.dumps({"tables": {"pair_features": old}}))
    assert old in pinned_versions(shop.settings)["pair_features"]


def test_versions_that_a_restored_lake_does_not_have_are_passed_over(shop, registered):
    registered.append({"pair_features": 99, "gone": 3})
    assert 99 not in pinned_versions(shop.settings)["pair_features"]
