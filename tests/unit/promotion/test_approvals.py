"""An approval is one answer to one document, in time, by who may give it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from evergreen.errors import PromotionRefusedError
from evergreen.promotion import approvals
from evergreen.promotion.approvals import State
from evergreen.promotion.ledger import Ledger
from evergreen.settings import Settings
from evergreen.settings.promotion import ApprovalMode

OVER = timedelta(seconds=-1)


def with_promotion(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"promotion": settings.promotion.model_copy(update=changes)})


def state(settings: Settings, digest: str) -> State | None:
    found = approvals.latest(settings, digest)
    return found.state if found else None


def operations(settings: Settings) -> list[tuple[str, str]]:
    return [(sealed.entry.operation, sealed.entry.outcome) for sealed in Ledger(settings).entries()]


def test_a_request_waits_for_its_answer(settings: Settings, make_evidence: Callable[..., str]) -> None:
    digest = make_evidence("1")
    made = approvals.request(settings, digest, user="airflow")
    assert state(settings, digest) is State.PENDING
    assert approvals.pending(settings) == [made]
    assert made.expires_at - made.requested_at == timedelta(hours=settings.promotion.approval_hours)


@pytest.mark.parametrize("decision", [State.APPROVED, State.REJECTED])
def test_an_answer_is_kept_with_who_gave_it(
    settings: Settings, make_evidence: Callable[..., str], decision: State
) -> None:
    digest = make_evidence("1")
    approvals.request(settings, digest, user="airflow")
    decided = approvals.decide(settings, digest, decision, user="ada")
    assert (decided.state, decided.decided_by) == (decision, "ada")
    assert state(settings, digest) is decision
    assert approvals.pending(settings) == []
    assert operations(settings) == [("request_approval", "success"), (decision, "success")]


def test_asking_twice_is_asking_once(settings: Settings, make_evidence: Callable[..., str]) -> None:
    digest = make_evidence("1")
    first = approvals.request(settings, digest)
    assert approvals.request(settings, digest) == first
    approvals.decide(settings, digest, "approved", user="ada")
    assert approvals.request(settings, digest).approval_id == first.approval_id


def test_the_same_answer_twice_is_one_answer(settings: Settings, make_evidence: Callable[..., str]) -> None:
    digest = make_evidence("1")
    approvals.request(settings, digest)
    approvals.decide(settings, digest, "approved", user="ada")
    assert approvals.decide(settings, digest, "approved", user="ada").state is State.APPROVED
    assert len(operations(settings)) == 2


def test_an_answer_cannot_be_changed(settings: Settings, make_evidence: Callable[..., str]) -> None:
    digest = make_evidence("1")
    approvals.request(settings, digest)
    approvals.decide(settings, digest, "rejected", user="ada")
    with pytest.raises(PromotionRefusedError, match="is rejected, must be pending"):
        approvals.decide(settings, digest, "approved", user="ada")
    assert state(settings, digest) is State.REJECTED
    assert operations(settings)[-1] == ("approved", "failure")


def test_a_newer_request_supersedes_an_older_one(settings: Settings, make_evidence: Callable[..., str]) -> None:
    older, newer = make_evidence("1"), make_evidence("2")
    approvals.request(settings, older)
    approvals.request(settings, newer)
    assert (state(settings, older), state(settings, newer)) == (State.SUPERSEDED, State.PENDING)
    with pytest.raises(PromotionRefusedError, match="is superseded, must be pending"):
        approvals.decide(settings, older, "approved", user="ada")


def test_an_answer_given_is_not_superseded(settings: Settings, make_evidence: Callable[..., str]) -> None:
    older = make_evidence("1")
    approvals.request(settings, older)
    approvals.decide(settings, older, "approved", user="ada")
    approvals.request(settings, make_evidence("2"))
    assert state(settings, older) is State.APPROVED


def test_silence_expires(settings: Settings, make_evidence: Callable[..., str]) -> None:
    digest = make_evidence("1")
    approvals.request(settings, digest, expires_in=OVER)
    assert state(settings, digest) is State.EXPIRED
    assert approvals.pending(settings) == []
    with pytest.raises(PromotionRefusedError, match="is expired, must be pending"):
        approvals.decide(settings, digest, "approved", user="ada")


def test_an_expired_request_can_be_made_again(settings: Settings, make_evidence: Callable[..., str]) -> None:
    digest = make_evidence("1")
    first = approvals.request(settings, digest, expires_in=OVER)
    assert approvals.request(settings, digest).approval_id != first.approval_id
    assert state(settings, digest) is State.PENDING


@pytest.mark.parametrize("verdict", ["reject", "inconclusive"])
def test_only_what_passed_can_be_approved(settings: Settings, make_evidence: Callable[..., str], verdict: str) -> None:
    with pytest.raises(PromotionRefusedError, match=f"says '{verdict}'"):
        approvals.request(settings, make_evidence("1", verdict=verdict))


def test_an_answer_needs_a_question(settings: Settings, make_evidence: Callable[..., str]) -> None:
    with pytest.raises(PromotionRefusedError, match="nobody asked"):
        approvals.decide(settings, make_evidence("1"), "approved", user="ada")


@pytest.mark.parametrize("decision", ["yes", "", "used"])
def test_an_answer_is_yes_or_no(settings: Settings, make_evidence: Callable[..., str], decision: str) -> None:
    digest = make_evidence("1")
    approvals.request(settings, digest)
    with pytest.raises(PromotionRefusedError, match="must be 'approved' or 'rejected'"):
        approvals.decide(settings, digest, decision, user="ada")


@pytest.mark.parametrize(
    ("changes", "user", "message"),
    [
        ({"approvers": ("ada", "grace")}, "eve", "eve may not approve, only ada, grace"),
        ({}, "", "needs a user's name"),
        ({}, "policy", "the policy may not answer in a person's place"),
        ({"approval": ApprovalMode.POLICY, "approvers": ("ada",)}, "eve", "eve may not approve"),
    ],
)
def test_who_may_not_approve(
    settings: Settings, make_evidence: Callable[..., str], changes: dict[str, object], user: str, message: str
) -> None:
    settings = with_promotion(settings, **changes)
    digest = make_evidence("1")
    approvals.request(settings, digest)
    with pytest.raises(PromotionRefusedError, match=message):
        approvals.decide(settings, digest, "approved", user=user)
    assert state(settings, digest) is State.PENDING
    assert operations(settings)[-1] == ("approved", "failure")


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        ({"approvers": ("ada", "grace")}, "grace"),
        ({}, "anybody"),
        ({"approval": ApprovalMode.POLICY}, "policy"),
        ({"approval": ApprovalMode.POLICY, "approvers": ("ada",)}, "ada"),
    ],
)
def test_who_may_approve(
    settings: Settings, make_evidence: Callable[..., str], changes: dict[str, object], user: str
) -> None:
    settings = with_promotion(settings, **changes)
    digest = make_evidence("1")
    approvals.request(settings, digest)
    assert approvals.decide(settings, digest, "approved", user=user).state is State.APPROVED
