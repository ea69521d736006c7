"""The health check says what is so: a process that answers, and no model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from evergreen.promotion.champion import Champion
from evergreen.promotion.deployment import point, pointer_path
from evergreen.serving.app import create_app
from evergreen.settings import Settings
from tests.unit.promotion.conftest import approve, make_evidence, promote_version

__all__ = ["approve", "make_evidence", "promote_version"]  # fixtures


def health(settings: Settings) -> dict[str, object]:
    answer = TestClient(create_app(settings)).get("/health")
    assert answer.status_code == 200
    document: dict[str, object] = answer.json()
    return document


def test_without_a_champion_there_is_no_model(settings: Settings) -> None:
    document = health(settings)
    assert (document["status"], document["model"], document["champion"]) == ("no model", None, None)


def test_a_promoted_champion_is_named_and_not_claimed_to_be_served(
    settings: Settings, promote_version: Callable[..., Champion]
) -> None:
    champion = promote_version("1")
    point(settings, champion)
    document = health(settings)
    assert document["status"] == "no model"
    assert document["champion"] == {"version": "1", "generation": 1, "bundle_digest": champion.bundle_digest}


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_broken_pointer_is_no_champion(settings: Settings, content: str) -> None:
    path = pointer_path(settings)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert health(settings)["champion"] is None
