"""The champion changes by a compare-and-set or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from evergreen.errors import LedgerError, PromotionRefusedError
from evergreen.promotion import approvals, audit, champion
from evergreen.promotion.champion import Champion, bundle_folder
from evergreen.promotion.evidence import evidence_path
from evergreen.promotion.ledger import Ledger
from evergreen.promotion.rollback import release_barred, rollback
from evergreen.settings import Settings
from evergreen.settings.promotion import ApprovalMode

Make = Callable[..., str]
Promote = Callable[..., Champion]


def last_entry(settings: Settings):
    return Ledger(settings).entries()[-1].entry


def test_before_the_first_there_is_none(settings: Settings) -> None:
    assert champion.current(settings) is None
    assert champion.history(settings) == []


def test_a_promotion_makes_the_next_generation(settings: Settings, promote_version: Promote) -> None:
    first = promote_version("1")
    second = promote_version("2", generation=1, day="2011-09-01")
    assert (first.generation, second.generation) == (1, 2)
    assert champion.current(settings) == second
    assert [entry.version for entry in champion.history(settings)] == ["2", "1"]
    assert second.data_day == date(2011, 9, 1)


def test_a_promotion_stands_in_the_ledger(settings: Settings, promote_version: Promote) -> None:
    promote_version("1")
    assert last_entry(settings).rollback_available is False
    made = promote_version("2", generation=1)
    entry = last_entry(settings)
    assert (entry.operation, entry.model_version, entry.outcome, entry.user) == ("promote", "2", "success", "airflow")
    assert entry.rollback_available
    assert entry.resources_affected == made.resources


def test_promoting_the_champion_again_says_so(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str]
) -> None:
    digest = make_evidence("1")
    approval_id = approve(digest)
    arguments = {"approval_id": approval_id, "expected_generation": 0, "user": "airflow"}
    first = champion.promote(settings, digest, **arguments)
    entries = len(Ledger(settings).entries())
    again = champion.promote(settings, digest, **arguments)
    assert (first.already, again.already) == (False, True)
    assert again.generation == 1
    assert len(Ledger(settings).entries()) == entries


def refused(settings: Settings, digest: str, message: str, **arguments: object) -> None:
    """The promotion is refused for this reason alone, the champion stays, the ledger tells."""
    before = champion.current(settings)
    defaults = {"approval_id": None, "expected_generation": before.generation if before else 0, "user": "airflow"}
    with pytest.raises(PromotionRefusedError, match=message) as refusal:
        champion.promote(settings, digest, **defaults | arguments)
    assert ";" not in str(refusal.value)
    assert champion.current(settings) == before
    entry = last_entry(settings)
    assert (entry.operation, entry.outcome) == ("promote", "failure")
    assert entry.error_detail in str(refusal.value)


def test_no_answer_promotes_nothing(settings: Settings, make_evidence: Make) -> None:
    digest = make_evidence("1")
    made = approvals.request(settings, digest)
    refused(settings, digest, "nobody approved it", approval_id=None)
    refused(settings, digest, "its approval is pending", approval_id=made.approval_id)
    refused(settings, digest, "nobody approved it", approval_id="no such approval")


def test_a_rejection_promotes_nothing(settings: Settings, make_evidence: Make) -> None:
    digest = make_evidence("1")
    approvals.request(settings, digest)
    no = approvals.decide(settings, digest, "rejected", user="ada")
    refused(settings, digest, "its approval is rejected", approval_id=no.approval_id)


def test_an_approval_of_another_digest_promotes_nothing(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str]
) -> None:
    digest, other = make_evidence("1"), make_evidence("2")
    refused(settings, digest, f"the approval is for evidence {other[:12]}", approval_id=approve(other))


def test_an_expired_approval_promotes_nothing(
    settings: Settings, make_evidence: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = make_evidence("1")
    approvals.request(settings, digest, expires_in=timedelta(seconds=30))
    yes = approvals.decide(settings, digest, "approved", user="ada")

    class Later(champion.datetime):
        @classmethod
        def now(cls, zone=None):
            return super().now(zone) + timedelta(seconds=31)

    monkeypatch.setattr(champion, "datetime", Later)
    refused(settings, digest, "its approval is expired", approval_id=yes.approval_id)


def test_a_used_approval_promotes_nothing(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its champion was rolled back and released: only the approval stands in the way of promoting it once more."""
    first = make_evidence("1")
    champion.promote(settings, first, approval_id=approve(first), expected_generation=0, user="airflow")
    second = make_evidence("2", generation=1)
    used = approve(second)
    champion.promote(settings, second, approval_id=used, expected_generation=1, user="airflow")
    rollback(settings, reason="test", user="ada")
    release_barred(settings, "2", reason="test", user="ada")
    monkeypatch.setattr(champion, "CHECKS", tuple(c for c in champion.CHECKS if c is not champion.check_generation))
    refused(settings, second, "its approval is used", approval_id=used)


def test_a_policy_cannot_stand_in_for_a_human(settings: Settings, make_evidence: Make) -> None:
    digest = make_evidence("1")
    promotion = settings.promotion.model_copy(update={"approval": ApprovalMode.POLICY})
    by_policy = settings.model_copy(update={"promotion": promotion})
    approvals.request(by_policy, digest)
    yes = approvals.decide(by_policy, digest, "approved", user=approvals.POLICY_USER)
    refused(settings, digest, "it was approved by policy", approval_id=yes.approval_id)
    made = champion.promote(by_policy, digest, approval_id=yes.approval_id, expected_generation=0, user="airflow")
    assert made.generation == 1


@pytest.mark.parametrize(("judged", "expected"), [(0, 0), (0, 1), (1, 0), (2, 2)])
def test_a_judgement_against_another_champion_promotes_nothing(
    settings: Settings,
    make_evidence: Make,
    approve: Callable[[str], str],
    promote_version: Promote,
    judged: int,
    expected: int,
) -> None:
    promote_version("1")
    digest = make_evidence("2", generation=judged)
    message = (
        f"the champion is generation 1, the candidate was judged against {judged} and is promoted against {expected}"
    )
    refused(settings, digest, message, approval_id=approve(digest), expected_generation=expected)


def test_older_data_promote_nothing(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str], promote_version: Promote
) -> None:
    promote_version("1", day="2011-09-01")
    older = make_evidence("2", generation=1, day="2011-08-31")
    refused(settings, older, "its data end on 2011-08-31, the champion's on 2011-09-01", approval_id=approve(older))
    equal = make_evidence("3", generation=1, day="2011-09-01")
    arguments = {"approval_id": approve(equal), "expected_generation": 1, "user": "airflow"}
    assert champion.promote(settings, equal, **arguments).generation == 2


def test_a_barred_version_promotes_nothing_under_any_name(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str], promote_version: Promote
) -> None:
    promote_version("1")
    bad = promote_version("2", generation=1)
    rollback(settings, reason="complaints", user="ada")
    for version in ("2", "3"):
        digest = make_evidence(version, generation=3, bundle=bad.bundle_digest)
        refused(settings, digest, r"was rolled back \(complaints\) and is barred", approval_id=approve(digest))
    release_barred(settings, "2", reason="it was the network", user="ada")
    digest = make_evidence("2", generation=3, bundle=bad.bundle_digest)
    made = champion.promote(settings, digest, approval_id=approve(digest), expected_generation=3, user="airflow")
    assert made.generation == 4


def test_a_missing_bundle_promotes_nothing(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str]
) -> None:
    digest = make_evidence("1", bundle="c" * 64)
    bundle_folder(settings, "c" * 64).rmdir()
    refused(settings, digest, "its bundle is not in", approval_id=approve(digest))


def test_a_bad_verdict_promotes_nothing(
    settings: Settings, make_evidence: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with an approval, which cannot be had for it by the front door."""
    digest = make_evidence("1", verdict="reject")
    monkeypatch.setattr(
        champion, "CHECKS", tuple(check for check in champion.CHECKS if check is not champion.check_approval)
    )
    refused(settings, digest, "says 'reject', must be 'promote'")


def test_altered_evidence_promotes_nothing(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str]
) -> None:
    digest = make_evidence("1")
    approval_id = approve(digest)
    evidence_path(settings, digest).write_text("{}")
    with pytest.raises(PromotionRefusedError, match="was altered"):
        champion.promote(settings, digest, approval_id=approval_id, expected_generation=0, user="airflow")
    assert champion.current(settings) is None


def test_every_reason_is_told_at_once(settings: Settings, make_evidence: Make, promote_version: Promote) -> None:
    promote_version("1")
    digest = make_evidence("2", day="2011-08-01")
    with pytest.raises(PromotionRefusedError, match=r"judge it again; nobody approved it; its data end on 2011-08-01"):
        champion.promote(settings, digest, approval_id=None, expected_generation=0, user="airflow")


def test_history_cannot_be_changed(settings: Settings, promote_version: Promote) -> None:
    promote_version("1")
    with (
        pytest.raises(IntegrityError, match="champions is append-only"),
        Ledger(settings).transaction() as transaction,
    ):
        transaction.connection.exec_driver_sql("UPDATE champions SET version = '9'")


def forge(settings: Settings, statement: str) -> None:
    connection = sqlite3.connect(Ledger(settings).folder / "ledger.db")
    for action in ("update", "delete"):
        connection.execute(f"DROP TRIGGER champions_no_{action}")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE champions SET version = '9'",
        "UPDATE champions SET bundle_digest = 'beef'",
        "UPDATE champions SET data_day = '2001-01-01'",
        "UPDATE champions SET ledger_sequence = 1",
        "INSERT INTO champions SELECT model_name, 2, kind, '9', 'beef', evidence_digest, data_day, promoted_at, "
        "ledger_sequence FROM champions",
    ],
)
def test_a_forged_champion_is_not_served(settings: Settings, promote_version: Promote, statement: str) -> None:
    promote_version("1")
    forge(settings, statement)
    with pytest.raises(LedgerError, match="changed behind the ledger's back"):
        champion.current(settings)
    assert not audit.verify(settings).intact


def test_a_ledger_with_an_edited_entry_promotes_nothing(
    settings: Settings, make_evidence: Make, approve: Callable[[str], str]
) -> None:
    digest = make_evidence("1")
    approval_id = approve(digest)
    connection = sqlite3.connect(Ledger(settings).folder / "ledger.db")
    connection.execute("DROP TRIGGER ledger_entries_no_update")
    connection.execute("UPDATE ledger_entries SET body = 'x' WHERE sequence = 1")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="entry 1 was edited"):
        champion.promote(settings, digest, approval_id=approval_id, expected_generation=0, user="airflow")


def test_the_audit_reads_rows_and_evidence_too(settings: Settings, promote_version: Promote) -> None:
    promote_version("1")
    made = promote_version("2", generation=1)
    assert audit.verify(settings).intact
    evidence_path(settings, made.evidence_digest).write_text("{}")
    assert "was altered" in audit.verify(settings).problems[0]
    forge(settings, "DELETE FROM champions WHERE generation = 1")
    assert "generations of the champion are [2]" in audit.verify(settings).problems[0]


def test_an_entry_that_is_none_any_more_hides_no_forgery(settings: Settings, promote_version: Promote) -> None:
    made = promote_version("1")
    connection = sqlite3.connect(Ledger(settings).folder / "ledger.db")
    connection.execute("DROP TRIGGER ledger_entries_no_update")
    connection.execute(f"UPDATE ledger_entries SET body = '[]' WHERE sequence = {made.ledger_sequence}")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="changed behind the ledger's back"):
        champion.current(settings)
