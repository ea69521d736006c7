"""Serving follows the ledger, whatever the pointer's file says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from evergreen.errors import PromotionRefusedError
from evergreen.models import bundle
from evergreen.promotion import deployment
from evergreen.promotion.champion import Champion
from evergreen.promotion.ledger import Ledger
from evergreen.settings import Settings

Promote = Callable[..., Champion]


def test_pointing_is_done_once_and_recorded_once(settings: Settings, promote_version: Promote) -> None:
    made = promote_version("1")
    assert deployment.point(settings, made, user="airflow")
    assert not deployment.point(settings, made, user="airflow")
    deploys = [sealed.entry for sealed in Ledger(settings).entries() if sealed.entry.operation == "deploy"]
    assert [entry.model_version for entry in deploys] == ["1"]
    assert json.loads(deployment.pointer_path(settings).read_text()) == {
        "model_name": made.model_name,
        "version": "1",
        "bundle_digest": made.bundle_digest,
        "evidence_digest": made.evidence_digest,
        "generation": 1,
    }


def test_nothing_is_served_before_the_first_promotion(settings: Settings) -> None:
    with pytest.raises(PromotionRefusedError, match="there is no champion yet"):
        deployment.served(settings)


@pytest.mark.parametrize("stale", [True, False])
def test_a_pointer_that_a_crash_left_behind_is_brought_up_to_date(
    settings: Settings, promote_version: Promote, stale: bool
) -> None:
    first = promote_version("1")
    if stale:
        deployment.point(settings, first)
    promote_version("2", generation=1)
    assert deployment.served(settings).version == "2"
    assert '"generation":2' in deployment.pointer_path(settings).read_text()


@pytest.mark.parametrize(
    "content",
    ['{"generation": 1, "bundle_digest": "beef"}', "[]", "half a {", '{"generation": 9, "bundle_digest": "x"}'],
)
def test_a_pointer_that_the_ledger_does_not_know_is_refused(
    settings: Settings, promote_version: Promote, content: str
) -> None:
    deployment.point(settings, promote_version("1"))
    deployment.pointer_path(settings).write_text(content)
    with pytest.raises(PromotionRefusedError, match="which the ledger does not know"):
        deployment.served(settings)


def test_the_bundle_is_asked_for_by_the_ledgers_digest(
    settings: Settings, promote_version: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = promote_version("1")
    asked: list[tuple[Path, str]] = []

    def load(folder: Path, digest: str) -> SimpleNamespace:
        asked.append((folder, digest))
        return SimpleNamespace(digest=digest)

    monkeypatch.setattr(bundle, "load_bundle", load)
    loaded, _ = deployment.load_champion(settings)
    assert loaded == made
    assert asked == [(settings.home_path / "models" / made.bundle_digest, made.bundle_digest)]
