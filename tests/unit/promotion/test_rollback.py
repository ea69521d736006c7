"""Back to an earlier champion; the one that was left stays out until it is released by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evergreen.errors import PromotionRefusedError
from evergreen.promotion import champion, deployment
from evergreen.promotion.champion import Champion, bundle_folder
from evergreen.promotion.ledger import Ledger
from evergreen.promotion.rollback import release_barred, rollback
from evergreen.settings import Settings

Promote = Callable[..., Champion]


@pytest.fixture
def three(promote_version: Promote) -> list[Champion]:
    """Champions 1, 2 and 3, the last of them serving."""
    return [promote_version(str(number), generation=number - 1) for number in (1, 2, 3)]


def test_the_version_before_comes_back_as_a_new_generation(settings: Settings, three: list[Champion]) -> None:
    back = rollback(settings, reason="complaints", user="ada")
    assert (back.version, back.generation, back.kind) == ("2", 4, "rollback")
    assert (back.bundle_digest, back.evidence_digest) == (three[1].bundle_digest, three[1].evidence_digest)
    assert champion.current(settings) == back
    assert champion.barred(settings) == {"3": "complaints"}


def test_serving_points_back_at_once(settings: Settings, three: list[Champion]) -> None:
    deployment.point(settings, three[2])
    rollback(settings, reason="complaints", user="ada")
    assert deployment.served(settings).version == "2"
    assert '"version":"2"' in deployment.pointer_path(settings).read_text()


def test_it_stands_in_the_ledger(settings: Settings, three: list[Champion]) -> None:
    rollback(settings, reason="complaints", user="ada")
    entry = next(sealed.entry for sealed in Ledger(settings).entries() if sealed.entry.operation == "rollback")
    assert (entry.user, entry.outcome, entry.metrics) == (
        "ada",
        "success",
        {"generation": 4, "reason": "3: complaints"},
    )


def test_a_second_rollback_goes_further_back(settings: Settings, three: list[Champion]) -> None:
    rollback(settings, reason="complaints", user="ada")
    assert rollback(settings, reason="more complaints", user="ada").version == "1"
    with pytest.raises(PromotionRefusedError, match="no champion before version 1 is left"):
        rollback(settings, reason="even more", user="ada")


def test_a_version_can_be_named(settings: Settings, three: list[Champion]) -> None:
    assert rollback(settings, "1", reason="complaints", user="ada").version == "1"


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("3", "version 3 is the champion already"),
        ("7", "version 7 was never champion; earlier ones: 2, 1"),
    ],
)
def test_a_version_that_cannot_be_gone_back_to(
    settings: Settings, three: list[Champion], to: str, message: str
) -> None:
    with pytest.raises(PromotionRefusedError, match=message):
        rollback(settings, to, reason="complaints", user="ada")
    assert champion.current(settings) == three[2]
    entry = Ledger(settings).entries()[-1].entry
    assert (entry.operation, entry.outcome) == ("rollback", "failure")


def test_a_barred_version_cannot_be_gone_back_to(settings: Settings, three: list[Champion]) -> None:
    rollback(settings, reason="complaints", user="ada")
    with pytest.raises(PromotionRefusedError, match="version 3 was rolled back itself"):
        rollback(settings, "3", reason="changed my mind", user="ada")
    release_barred(settings, "3", reason="changed my mind", user="ada")
    assert rollback(settings, "3", reason="changed my mind", user="ada").version == "3"


def test_a_bundle_that_is_gone_is_not_gone_back_to(settings: Settings, three: list[Champion]) -> None:
    bundle_folder(settings, three[1].bundle_digest).rmdir()
    with pytest.raises(PromotionRefusedError, match="the bundle of version 2 is not in"):
        rollback(settings, reason="complaints", user="ada")
    assert champion.current(settings) == three[2]


def test_without_a_champion_there_is_nothing_to_roll_back(settings: Settings) -> None:
    with pytest.raises(PromotionRefusedError, match="there is no champion yet"):
        rollback(settings, reason="complaints", user="ada")


def test_a_reason_is_needed(settings: Settings, three: list[Champion]) -> None:
    with pytest.raises(PromotionRefusedError, match="needs a reason"):
        rollback(settings, reason=" ", user="ada")


def test_only_what_is_barred_can_be_released(settings: Settings, three: list[Champion]) -> None:
    with pytest.raises(PromotionRefusedError, match="version 2 cannot be released: it is not barred, barred are: none"):
        release_barred(settings, "2", reason="why not", user="ada")
    rollback(settings, reason="complaints", user="ada")
    with pytest.raises(PromotionRefusedError, match="version 1 cannot be released: it is not barred, barred are: 3"):
        release_barred(settings, "1", reason="why not", user="ada")
    with pytest.raises(PromotionRefusedError, match="a release needs a reason"):
        release_barred(settings, "3", reason=" ", user="ada")
    release_barred(settings, "3", reason="it was the network", user="ada")
    assert champion.barred(settings) == {}
    entries = [sealed.entry for sealed in Ledger(settings).entries() if sealed.entry.operation == "release_barred"]
    assert [(entry.model_version, entry.outcome) for entry in entries] == [
        ("2", "failure"),
        ("1", "failure"),
        ("3", "success"),
    ]
    assert entries[-1].metrics == {"reason": "it was the network"}
