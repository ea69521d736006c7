"""The champion: a row a generation, and a compare-and-set as the only way to a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from evergreen.errors import LedgerError, PromotionRefusedError
from evergreen.promotion import approvals
from evergreen.promotion.approvals import POLICY_USER, Approval, State
from evergreen.promotion.database import BARRED, CHAMPIONS, ENTRIES
from evergreen.promotion.evidence import Evidence, load_evidence
from evergreen.promotion.ledger import FAILURE, SUCCESS, Entry, Ledger, Transaction
from evergreen.settings import Settings
from evergreen.settings.promotion import ApprovalMode

PROMOTION, ROLLBACK = "promote", "rollback"


@dataclass(frozen=True)
class Champion:
    """The served model from one promotion or rollback to the next."""

    model_name: str
    generation: int  # 1 for the first champion, one more at every change
    kind: str  # PROMOTION or ROLLBACK
    version: str
    bundle_digest: str
    evidence_digest: str
    data_day: date
    promoted_at: datetime
    ledger_sequence: int = 0
    already: bool = False  # a promotion found it in place and changed nothing

    @property
    def resources(self) -> tuple[str, ...]:
        """How the ledger's entry names it: all that a forged row would have to change."""
        return (
            f"champion:{self.generation}",
            f"version:{self.version}",
            f"bundle:{self.bundle_digest}",
            f"evidence:{self.evidence_digest}",
            f"data_day:{self.data_day}",
        )


@dataclass(frozen=True)
class Attempt:
    """A promotion and the state that it meets, read in the transaction that would make it."""

    evidence: Evidence
    approval: Approval | None
    expected_generation: int
    current: Champion | None
    barred: dict[str, str]  # version or bundle digest -> why
    bundle: Path
    mode: ApprovalMode

    @property
    def generation(self) -> int:
        """Generation of the champion, 0 before the first."""
        return self.current.generation if self.current else 0


def current(settings: Settings) -> Champion | None:
    """The champion, None before the first promotion.

    Raises:
        LedgerError: the row is not what its ledger entry says.
    """
    with Ledger(settings).reading() as connection:
        return read_current(connection, settings.mlflow.model_name)


def history(settings: Settings) -> list[Champion]:
    """All champions, newest first."""
    with Ledger(settings).reading() as connection:
        return read_history(connection, settings.mlflow.model_name)


def barred(settings: Settings) -> dict[str, str]:
    """Versions that were rolled back and not released: version -> reason."""
    with Ledger(settings).reading() as connection:
        return {row.version: row.reason for row in _barred_rows(connection, settings.mlflow.model_name)}


def barred_reasons(settings: Settings) -> dict[str, str]:
    """Why versions and bundles are barred, by version and by bundle digest."""
    with Ledger(settings).reading() as connection:
        return _barred_names(connection, settings.mlflow.model_name)


def promote(
    settings: Settings, evidence_digest: str, *, approval_id: str | None, expected_generation: int, user: str
) -> Champion:
    """Makes the judged candidate the champion, or changes nothing. Doing it again says `already`.

    Args:
        settings: home and approval mode.
        evidence_digest: document of the candidate, with the verdict `promote`.
        approval_id: the answer to that document; it is used up. None: nobody answered.
        expected_generation: generation that the caller saw when the candidate was judged (0: no champion).
        user: who promotes.

    Raises:
        PromotionRefusedError: naming what was seen and what was expected. The refusal is in the ledger.
        LedgerError: the ledger was changed behind its back.
    """
    began = perf_counter()
    ledger = Ledger(settings)
    ledger.verify().raise_if_broken()
    evidence = load_evidence(settings, evidence_digest)
    now = datetime.now(UTC)
    with ledger.transaction() as transaction:
        attempt = _attempt(transaction.connection, settings, evidence, approval_id, expected_generation)
        if attempt.current and attempt.current.evidence_digest == evidence_digest:
            return replace(attempt.current, already=True)
        refusals = [reason for check in CHECKS if (reason := check(attempt, now))]
        if not refusals:
            if attempt.approval:
                approvals.mark_used(transaction, attempt.approval.approval_id, now)
            made = Champion(
                settings.mlflow.model_name,
                attempt.generation + 1,
                PROMOTION,
                evidence.version,
                evidence.bundle_digest,
                evidence.digest,
                evidence.data_day,
                now,
            )
            return add_champion(transaction, made, user=user, seconds=perf_counter() - began)
        transaction.append(
            Entry(
                PROMOTION,
                evidence.version,
                FAILURE,
                (f"evidence:{evidence_digest}", f"champion:{attempt.generation}"),
                duration_seconds=round(perf_counter() - began, 3),
                error_detail="; ".join(refusals),
                user=user,
            )
        )
    raise PromotionRefusedError(f"version {evidence.version} was not promoted: {'; '.join(refusals)}")


def check_verdict(attempt: Attempt, _now: datetime) -> str | None:
    """Only a candidate that passed its gates."""
    if attempt.evidence.verdict == "promote":
        return None
    return f"its evidence {attempt.evidence.digest[:12]} says {attempt.evidence.verdict!r}, must be 'promote'"


def check_generation(attempt: Attempt, _now: datetime) -> str | None:
    """Only against the champion that it was compared with: any promotion or rollback since then voids the judgement."""
    seen, judged, expected = attempt.generation, attempt.evidence.generation, attempt.expected_generation
    if seen == judged == expected:
        return None
    return (
        f"the champion is generation {seen}, the candidate was judged against {judged} and is promoted against "
        f"{expected}: judge it again"
    )


def check_approval(attempt: Attempt, now: datetime) -> str | None:
    """Only with an answer that is yes, to this document, in time, by who may give it, and not used before."""
    approval = attempt.approval
    if approval is None:
        return "nobody approved it"
    if approval.evidence_digest != attempt.evidence.digest:
        return f"the approval is for evidence {approval.evidence_digest[:12]}, not for {attempt.evidence.digest[:12]}"
    state = approval.at(now).state
    if state != State.APPROVED:
        return f"its approval is {state}, must be approved"
    if attempt.mode is ApprovalMode.HUMAN and approval.decided_by == POLICY_USER:
        return "it was approved by policy, settings.promotion.approval asks for a human"
    return None


def check_data_day(attempt: Attempt, _now: datetime) -> str | None:
    """Only with data that are not older than the champion's."""
    if attempt.current is None or attempt.evidence.data_day >= attempt.current.data_day:
        return None
    return f"its data end on {attempt.evidence.data_day}, the champion's on {attempt.current.data_day}"


def check_barred(attempt: Attempt, _now: datetime) -> str | None:
    """Only what was not rolled back, by version and by content."""
    for name in (attempt.evidence.version, attempt.evidence.bundle_digest):
        if reason := attempt.barred.get(name):
            return f"{name[:12]} was rolled back ({reason}) and is barred until it is released"
    return None


def check_bundle(attempt: Attempt, _now: datetime) -> str | None:
    """Only what can be loaded afterwards."""
    return None if attempt.bundle.is_dir() else f"its bundle is not in {attempt.bundle}"


CHECKS: tuple[Callable[[Attempt, datetime], str | None], ...] = (
    check_verdict,
    check_generation,
    check_approval,
    check_data_day,
    check_barred,
    check_bundle,
)


def add_champion(
    transaction: Transaction, champion: Champion, *, user: str, seconds: float, command: str = "", reason: str = ""
) -> Champion:
    """Writes a new generation and its ledger entry; generation numbers are unique, so two writers cannot both do it."""
    details = {"reason": reason} if reason else {}
    sealed = transaction.append(
        Entry(
            champion.kind,
            champion.version,
            SUCCESS,
            champion.resources,
            rollback_available=champion.generation > 1,
            duration_seconds=round(seconds, 3),
            metrics={"generation": champion.generation, **details},
            user=user,
            command=command,
        )
    )
    made = replace(champion, ledger_sequence=sealed.sequence)
    transaction.connection.execute(
        insert(CHAMPIONS).values(
            model_name=made.model_name,
            generation=made.generation,
            kind=made.kind,
            version=made.version,
            bundle_digest=made.bundle_digest,
            evidence_digest=made.evidence_digest,
            data_day=made.data_day.isoformat(),
            promoted_at=made.promoted_at.isoformat(timespec="microseconds"),
            ledger_sequence=made.ledger_sequence,
        )
    )
    return made


def read_current(connection: Connection, model_name: str) -> Champion | None:
    """The newest generation, checked against its ledger entry."""
    row = connection.execute(
        select(CHAMPIONS).where(CHAMPIONS.c.model_name == model_name).order_by(CHAMPIONS.c.generation.desc()).limit(1)
    ).one_or_none()
    if row is None:
        return None
    champion = _champion(row)
    if problem := forgery(connection, champion):
        raise LedgerError(problem)
    return champion


def read_history(connection: Connection, model_name: str) -> list[Champion]:
    """All generations, newest first."""
    rows = connection.execute(
        select(CHAMPIONS).where(CHAMPIONS.c.model_name == model_name).order_by(CHAMPIONS.c.generation.desc())
    )
    return [_champion(row) for row in rows]


def forgery(connection: Connection, champion: Champion) -> str | None:
    """Says where a champion's row is not what the ledger recorded; None where it is."""
    body = connection.execute(
        select(ENTRIES.c.body).where(ENTRIES.c.sequence == champion.ledger_sequence)
    ).scalar_one_or_none()
    try:
        entry = Entry.parse(body) if body else None
    except (KeyError, TypeError, ValueError):  # edited into something that is no entry
        entry = None
    if entry and entry.outcome == SUCCESS and entry.resources_affected == champion.resources:
        return None
    return (
        f"the champion's row of generation {champion.generation} (version {champion.version}) is not what ledger entry "
        f"{champion.ledger_sequence} recorded: it was changed behind the ledger's back"
    )


def bundle_folder(settings: Settings, bundle_digest: str) -> Path:
    """Where a bundle lies."""
    return settings.home_path / "models" / bundle_digest


def _attempt(
    connection: Connection, settings: Settings, evidence: Evidence, approval_id: str | None, expected_generation: int
) -> Attempt:
    return Attempt(
        evidence,
        approvals.find(connection, approval_id) if approval_id else None,
        expected_generation,
        read_current(connection, settings.mlflow.model_name),
        _barred_names(connection, settings.mlflow.model_name),
        bundle_folder(settings, evidence.bundle_digest),
        settings.promotion.approval,
    )


def _barred_rows(connection: Connection, model_name: str) -> list[Row[Any, Any]]:
    return list(connection.execute(select(BARRED).where(BARRED.c.model_name == model_name)))


def _barred_names(connection: Connection, model_name: str) -> dict[str, str]:
    rows = _barred_rows(connection, model_name)
    return {name: row.reason for row in rows for name in (row.version, row.bundle_digest)}


def _champion(row: Row[Any, Any]) -> Champion:
    return Champion(
        row.model_name,
        row.generation,
        row.kind,
        row.version,
        row.bundle_digest,
        row.evidence_digest,
        date.fromisoformat(row.data_day),
        datetime.fromisoformat(row.promoted_at),
        row.ledger_sequence,
    )
