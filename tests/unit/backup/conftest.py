"""A whole small home to back up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evergreen.promotion import pins
from evergreen.settings import Settings
from tests.homes import fill_home, note_run
from tests.shop import Shop


@pytest.fixture(scope="session")
def filled_home(filled_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a champion, made once a run. Not to be changed."""
    home = tmp_path_factory.mktemp("whole") / "home"
    shutil.copytree(filled_shop.settings.home_path, home)
    settings = filled_shop.settings.model_copy(update={"home": home})
    fill_home(Shop(settings, filled_shop.purchases, filled_shop.day))
    return home


@pytest.fixture
def whole(filled_home: Path, home: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a copy of it. What MLflow's registry names is tested with `register`."""
    monkeypatch.setattr(pins, "registered_tables", lambda _: [])
    shutil.copytree(filled_home, home)
    shutil.rmtree(home / "mlflow")
    note_run(settings)  # it names its home
    return settings
