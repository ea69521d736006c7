"""Approval and promotion with the real ledger; what Airflow itself would do stands in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from evergreen.errors import PromotionRefusedError
from evergreen.promotion import approvals, champion
from evergreen.promotion.champion import bundle_folder
from evergreen.promotion.deployment import served
from evergreen.promotion.evidence import save_evidence
from evergreen.promotion.ledger import current_user
from evergreen.settings import Settings, load_settings
from evergreen_airflow.assets import CHAMPION
from evergreen_airflow.operators.promotion import EvidenceApprovalOperator, PromoteOperator, RollbackOperator


@pytest.fixture
def judged(settings: Settings) -> Callable[..., dict[str, Any]]:
    """`judged("2", generation=1)`: what the gates return about a version, with its evidence and bundle."""

    def make(version: str, *, generation: int = 0, verdict: str = "promote") -> dict[str, Any]:
        bundle = (version.encode().hex() * 64)[:64]
        bundle_folder(settings, bundle).mkdir(parents=True, exist_ok=True)
        document = {
            "model": {"name": settings.mlflow.model_name, "version": version, "bundle_digest": bundle},
            "data_day": "2011-08-31",
            "champion": {"generation": generation, "version": None},
            "verdict": verdict,
        }
        return {
            "verdict": verdict,
            "reason": "calibration: off by half",
            "evidence_digest": save_evidence(settings, document),
        }

    return make


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What Airflow was told to show to the approver."""
    seen = SimpleNamespace()
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **details: vars(seen).update(details))
    return seen


@pytest.fixture
def mirrored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Versions that MLflow's alias was pointed at."""
    versions: list[str] = []
    monkeypatch.setattr(
        "evergreen.promotion.registry_mirror.mirror_champion",
        lambda settings, champion: versions.append(champion.version),
    )
    return versions


def approval(judged: dict[str, Any]) -> EvidenceApprovalOperator:
    return EvidenceApprovalOperator(task_id="approve", judged=judged)


def airflow_context(context: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return {**context("2011-08-31"), "task_instance": SimpleNamespace(id="ti-1")}


def answer(option: str, user: str | None = "ada") -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": user, "name": user} if user else None,
        "timedout": user is None,
    }


def ask(operator: EvidenceApprovalOperator, context: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(TaskAwaitingInput):
        operator.execute(airflow_context(context))


def test_it_asks_about_one_document_and_parks(judged, asked, context, settings):
    found = judged("1")
    with pytest.raises(TaskAwaitingInput) as parked:
        approval(found).execute(airflow_context(context))
    assert asked.subject == f"Promote version 1 (data of 2011-08-31)? Evidence {found['evidence_digest'][:12]}"
    assert found["evidence_digest"] in asked.body
    assert asked.options == ["Approve", "Reject"]
    assert asked.defaults == ["Reject"]
    assert parked.value.timeout == timedelta(hours=settings.promotion.approval_hours)
    assert approvals.latest(settings, found["evidence_digest"]).state == "pending"


def test_only_the_approvers_of_the_settings_are_asked(judged, asked, context, monkeypatch):
    monkeypatch.setenv("EVERGREEN__PROMOTION__APPROVERS", "[ada, bob]")
    ask(approval(judged("1")), context)
    assert asked.assigned_users == [{"id": "ada", "name": "ada"}, {"id": "bob", "name": "bob"}]


@pytest.mark.parametrize("verdict", ["reject", "inconclusive", "unchanged"])
def test_a_verdict_that_says_no_asks_nobody(judged, asked, context, settings, verdict):
    with pytest.raises(AirflowSkipException, match=f"^{verdict}: calibration: off by half$"):
        approval(judged("1", verdict=verdict)).execute(airflow_context(context))
    assert not vars(asked)
    assert approvals.pending(settings) == []


def test_a_yes_is_carried_to_the_ledger(judged, asked, context, settings):
    found = judged("1")
    ask(approval(found), context)
    given = approval(found).execute_complete(airflow_context(context), answer("Approve"))
    kept = approvals.latest(settings, found["evidence_digest"])
    assert (kept.state, kept.decided_by) == ("approved", "ada")
    assert given == {"approval_id": kept.approval_id, "decision": "approved", "user": "ada"}


def test_a_no_skips_what_follows(judged, asked, context, settings):
    found = judged("1")
    ask(approval(found), context)
    with pytest.raises(AirflowSkipException, match=r"^rejected by ada: not promoted$"):
        approval(found).execute_complete(airflow_context(context), answer("Reject"))
    assert approvals.latest(settings, found["evidence_digest"]).state == "rejected"


@pytest.mark.parametrize("option", ["Reject", "Approve"])
def test_silence_means_no_whatever_the_default_says(judged, asked, context, settings, option):
    found = judged("1")
    ask(approval(found), context)
    with pytest.raises(AirflowSkipException, match=r"^nobody answered within 24 hours: not promoted$"):
        approval(found).execute_complete(airflow_context(context), answer(option, user=None))
    assert approvals.latest(settings, found["evidence_digest"]).state != "approved"


def test_an_answer_to_a_request_that_a_newer_one_replaced_comes_too_late(judged, asked, context):
    old, new = judged("1"), judged("2")
    ask(approval(old), context)
    ask(approval(new), context)
    with pytest.raises(AirflowSkipException, match="is superseded: this answer came too late"):
        approval(old).execute_complete(airflow_context(context), answer("Approve"))


def test_who_may_not_approve_is_refused(judged, asked, context, monkeypatch):
    found = judged("1")
    monkeypatch.setenv("EVERGREEN__PROMOTION__APPROVERS", "[bob]")
    ask(approval(found), context)
    with pytest.raises(PromotionRefusedError, match="ada may not approve, only bob"):
        approval(found).execute_complete(airflow_context(context), answer("Approve"))


def test_without_logins_the_owner_of_the_machine_answers(judged, asked, context):
    found = judged("1")
    ask(approval(found), context)
    given = approval(found).execute_complete(airflow_context(context), answer("Approve", user="Anonymous"))
    assert given["user"] == current_user()


def test_a_task_that_is_run_again_asks_once(judged, asked, context):
    found = judged("1")
    ask(approval(found), context)
    first = approval(found).execute_complete(airflow_context(context), answer("Approve"))
    assert approval(found).execute(airflow_context(context)) == first


def test_the_policy_needs_nobody(judged, asked, context, settings, monkeypatch):
    monkeypatch.setenv("EVERGREEN__PROMOTION__APPROVAL", "policy")
    found = judged("1")
    given = approval(found).execute(airflow_context(context))
    assert given["user"] == "policy"
    assert not vars(asked)
    assert approvals.latest(load_settings(), found["evidence_digest"]).state == "approved"


def test_a_retry_would_ask_with_the_old_text_so_there_is_none():
    operator = approval({})
    assert operator.retries == 0
    assert operator.execution_timeout is None
    assert operator.template_fields == ("judged",)


def approved(judged: dict[str, Any], settings: Settings) -> dict[str, Any]:
    approvals.request(settings, judged["evidence_digest"], user="airflow")
    decided = approvals.decide(settings, judged["evidence_digest"], "approved", user="ada")
    return {"approval_id": decided.approval_id, "decision": "approved", "user": "ada"}


def promote(judged: dict[str, Any], approval: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    operator = PromoteOperator(task_id="promote", judged=judged, approved=approval, outlets=[CHAMPION])
    return operator.execute(context)


def test_promotion_sets_champion_serving_and_alias_and_emits(judged, settings, context, mirrored):
    found = judged("1")
    made = context()
    result = promote(found, approved(found, settings), made)
    assert result == {
        "version": "1",
        "generation": 1,
        "evidence_digest": found["evidence_digest"],
        "data_day": "2011-08-31",
        "already": False,
    }
    assert champion.current(settings).version == served(settings).version == "1"
    assert mirrored == ["1"]
    assert made["outlet_events"][CHAMPION].keys == ["2011-08-31"]
    assert made["outlet_events"][CHAMPION].extra["version"] == "1"


def test_a_used_approval_promotes_nothing_else(judged, settings, context, mirrored):
    first, second = judged("1"), judged("2", generation=1)
    used = approved(first, settings)
    promote(first, used, context())
    lost = context()
    with pytest.raises(PromotionRefusedError):
        promote(second, used, lost)
    assert not lost["outlet_events"]
    assert champion.current(settings).version == "1"


def test_a_promotion_that_is_cleared_after_a_rollback_promotes_nothing(judged, settings, context, mirrored):
    first, second = judged("1"), judged("2", generation=1)
    promote(first, approved(first, settings), context())
    used = approved(second, settings)
    promote(second, used, context())
    back = context()
    rolled = RollbackOperator(task_id="rollback", to="", reason="it sells umbrellas", outlets=[CHAMPION]).execute(back)
    assert (rolled["version"], rolled["generation"]) == ("1", 3)
    assert back["outlet_events"][CHAMPION].keys == ["2011-08-31"]
    with pytest.raises(PromotionRefusedError):
        promote(second, used, context())
    assert champion.current(settings).version == "1"
    assert mirrored == ["1", "2", "1"]


def test_a_rollback_names_who_asked(judged, settings, context, mirrored):
    from evergreen.promotion.ledger import Ledger

    for position, version in enumerate("12"):
        found = judged(version, generation=position)
        promote(found, approved(found, settings), context())
    RollbackOperator(task_id="rollback", to="1", reason="it sells umbrellas", outlets=[CHAMPION]).execute(context())
    entry = next(sealed.entry for sealed in Ledger(settings).entries() if sealed.entry.operation == "rollback")
    assert entry.user == "ada"


def test_there_is_nothing_to_roll_back_at_first(context, settings):
    with pytest.raises(PromotionRefusedError, match="nothing was rolled back: there is no champion yet"):
        RollbackOperator(task_id="rollback", to="", reason="why not").execute(context())


def test_what_is_templated():
    assert PromoteOperator.template_fields == ("judged", "approved")
    assert RollbackOperator.template_fields == ("to", "reason")
