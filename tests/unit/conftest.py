"""Fixtures of unit tests that need a filled lake."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from evergreen.settings import Settings, load_settings
from evergreen.training.dataset import TrainingSet, build_training_set
from tests.conftest import SHORT_HISTORY
from tests.shop import FIRST, Shop, publish_purchases, purchases_of


@pytest.fixture(scope="session")
def filled_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop of 60 customers, 20 products and 170 days, filled once a run. Not to be changed."""
    settings = load_settings("local")
    training = settings.training.model_copy(update=SHORT_HISTORY)
    settings = settings.model_copy(update={"home": tmp_path_factory.mktemp("shop"), "training": training})
    purchases = purchases_of(60, 20, 170)
    day = FIRST + timedelta(days=169)
    publish_purchases(settings, purchases, day)
    return Shop(settings, purchases, day)


@pytest.fixture
def shop(filled_shop: Shop, settings: Settings, home: Path) -> Shop:
    """A copy of the filled shop at this test's own home."""
    shutil.copytree(filled_shop.settings.home_path, home, dirs_exist_ok=True)
    return Shop(settings, filled_shop.purchases, filled_shop.day)


@pytest.fixture(scope="session")
def filled_training_set(filled_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """The training set of the shop's day, built once a run. Not to be changed."""
    home = tmp_path_factory.mktemp("filled") / "home"
    shutil.copytree(filled_shop.settings.home_path, home)
    settings = filled_shop.settings.model_copy(update={"home": home})
    return build_training_set(settings, filled_shop.day, join=filled_shop.join)
