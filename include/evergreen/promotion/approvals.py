"""Approvals: a single-use answer to one evidence digest, void after a while. Silence means no."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, func, insert, select, update

from evergreen.errors import PromotionRefusedError
from evergreen.promotion.database import APPROVALS
from evergreen.promotion.evidence import load_evidence
from evergreen.promotion.ledger import FAILURE, Entry, Ledger, Transaction
from evergreen.settings import Settings
from evergreen.settings.promotion import ApprovalMode

POLICY_USER = "policy"  # answers in the mode `policy`; never accepted where a human is asked


class State(StrEnum):
    """Life of an approval."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    USED = "used"


@dataclass(frozen=True)
class Approval:
    """One request and its answer."""

    approval_id: str
    evidence_digest: str
    state: State
    requested_at: datetime
    expires_at: datetime
    decided_by: str = ""

    def at(self, moment: datetime) -> Approval:
        """The approval as it stands at a moment: what was not used in time is expired."""
        open_states = (State.PENDING, State.APPROVED)
        return replace(self, state=State.EXPIRED) if self.state in open_states and moment >= self.expires_at else self


def request(
    settings: Settings, evidence_digest: str, *, expires_in: timedelta | None = None, user: str = ""
) -> Approval:
    """Asks for an answer to a document whose verdict is `promote`. Older pending requests are superseded.

    Asking again while a request for the same document is open gives that one: a retried task asks once.

    Args:
        settings: approval mode, validity and home.
        evidence_digest: what is to be approved.
        expires_in: validity of request and answer; by default `settings.promotion.approval_hours`.
        user: who asks.

    Raises:
        PromotionRefusedError: the document is missing, altered, or its verdict is not `promote`.
    """
    evidence = load_evidence(settings, evidence_digest)
    if evidence.verdict != "promote":
        raise PromotionRefusedError(
            f"evidence {evidence_digest[:12]} says {evidence.verdict!r}: only a candidate that passed can be approved"
        )
    now = datetime.now(UTC)
    valid_for = timedelta(hours=settings.promotion.approval_hours) if expires_in is None else expires_in
    model_name = settings.mlflow.model_name
    with Ledger(settings).transaction() as transaction:
        connection = transaction.connection
        open_request = newest(connection, evidence_digest)
        if open_request and open_request.at(now).state in (State.PENDING, State.APPROVED):
            return open_request
        connection.execute(
            update(APPROVALS)
            .where(APPROVALS.c.model_name == model_name, APPROVALS.c.state == State.PENDING)
            .values(state=State.SUPERSEDED)
        )
        made = Approval(str(uuid4()), evidence_digest, State.PENDING, now, now + valid_for)
        connection.execute(
            insert(APPROVALS).values(
                number=connection.execute(select(func.coalesce(func.max(APPROVALS.c.number), 0))).scalar_one() + 1,
                approval_id=made.approval_id,
                model_name=model_name,
                evidence_digest=evidence_digest,
                state=State.PENDING,
                requested_at=_text(made.requested_at),
                expires_at=_text(made.expires_at),
                decided_by="",
                decided_at="",
                used_at="",
            )
        )
        transaction.append(_entry("request_approval", made, evidence.version, user))
    return made


def decide(settings: Settings, evidence_digest: str, decision: str, *, user: str) -> Approval:
    """Answers the open request for a document: `approved` or `rejected`. The same answer twice is one answer.

    Raises:
        PromotionRefusedError: there is no open request for this document, or this user may not answer.
    """
    if decision not in (State.APPROVED, State.REJECTED):
        raise PromotionRefusedError(f"decision is {decision!r}, must be 'approved' or 'rejected'")
    now = datetime.now(UTC)
    evidence = load_evidence(settings, evidence_digest)
    with Ledger(settings).transaction() as transaction:
        found = newest(transaction.connection, evidence_digest)
        refusal = _not_allowed(settings, user) or _not_open(found.at(now) if found else None, evidence_digest, decision)
        if found and not refusal:
            if found.state == decision:
                return found
            transaction.connection.execute(
                update(APPROVALS)
                .where(APPROVALS.c.approval_id == found.approval_id)
                .values(state=decision, decided_by=user, decided_at=_text(now))
            )
            decided = replace(found, state=State(decision), decided_by=user)
            transaction.append(_entry(decision, decided, evidence.version, user))
            return decided
        resources = (f"evidence:{evidence_digest}",)
        transaction.append(Entry(decision, evidence.version, FAILURE, resources, error_detail=str(refusal), user=user))
    raise PromotionRefusedError(str(refusal))


def latest(settings: Settings, evidence_digest: str) -> Approval | None:
    """The newest request for a document as it stands now."""
    with Ledger(settings).reading() as connection:
        found = newest(connection, evidence_digest)
    return found.at(datetime.now(UTC)) if found else None


def pending(settings: Settings) -> list[Approval]:
    """Requests that wait for an answer, oldest first."""
    now = datetime.now(UTC)
    with Ledger(settings).reading() as connection:
        rows = connection.execute(
            select(APPROVALS)
            .where(APPROVALS.c.model_name == settings.mlflow.model_name, APPROVALS.c.state == State.PENDING)
            .order_by(APPROVALS.c.number)
        ).all()
    return [approval for row in rows if (approval := _approval(row)).at(now).state == State.PENDING]


def newest(connection: Connection, evidence_digest: str) -> Approval | None:
    """The newest request for a document as stored."""
    row = connection.execute(
        select(APPROVALS)
        .where(APPROVALS.c.evidence_digest == evidence_digest)
        .order_by(APPROVALS.c.number.desc())
        .limit(1)
    ).one_or_none()
    return _approval(row) if row else None


def find(connection: Connection, approval_id: str) -> Approval | None:
    """A request by its id, as stored."""
    row = connection.execute(select(APPROVALS).where(APPROVALS.c.approval_id == approval_id)).one_or_none()
    return _approval(row) if row else None


def mark_used(transaction: Transaction, approval_id: str, moment: datetime) -> None:
    """Uses an approval up, in the transaction of the promotion that it allowed."""
    transaction.connection.execute(
        update(APPROVALS).where(APPROVALS.c.approval_id == approval_id).values(state=State.USED, used_at=_text(moment))
    )


def _not_allowed(settings: Settings, user: str) -> str | None:
    mode, approvers = settings.promotion.approval, settings.promotion.approvers
    if not user:
        return "an approval needs a user's name"
    if mode is ApprovalMode.POLICY and user == POLICY_USER:
        return None
    if user == POLICY_USER:
        return "settings.promotion.approval is 'human': the policy may not answer in a person's place"
    if approvers and user not in approvers:
        return f"{user} may not approve, only {', '.join(approvers)} (settings.promotion.approvers)"
    return None


def _not_open(found: Approval | None, evidence_digest: str, decision: str) -> str | None:
    if found is None:
        return f"nobody asked for an approval of evidence {evidence_digest[:12]}"
    if found.state in (State.PENDING, decision):
        return None
    return (
        f"the request for evidence {evidence_digest[:12]} is {found.state}, must be pending: judge the candidate again"
    )


def _entry(operation: str, approval: Approval, version: str, user: str) -> Entry:
    resources = (f"evidence:{approval.evidence_digest}", f"approval:{approval.approval_id}")
    return Entry(
        operation, version, resources_affected=resources, user=user, metrics={"expires_at": _text(approval.expires_at)}
    )


def _approval(row: Row[Any, Any]) -> Approval:
    return Approval(
        row.approval_id,
        row.evidence_digest,
        State(row.state),
        datetime.fromisoformat(row.requested_at),
        datetime.fromisoformat(row.expires_at),
        row.decided_by,
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
