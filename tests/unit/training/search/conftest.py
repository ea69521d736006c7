"""A small training set, and settings of the search."""

from __future__ import annotations

import pytest

from evergreen.settings import Settings
from evergreen.training.dataset import TrainingSet
from tests.weekly_set import make_set


@pytest.fixture(scope="session")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """A training set of 8 weekly dates. Not to be changed."""
    return make_set(tmp_path_factory.mktemp("search"))


@pytest.fixture
def searched(settings: Settings):
    """Settings with other settings of the search."""

    def change(**changes) -> Settings:
        search = settings.training.search.model_validate(settings.training.search.model_dump() | changes)
        training = settings.training.model_copy(update={"search": search, "threads": 1})
        return settings.model_copy(update={"training": training})

    return change
