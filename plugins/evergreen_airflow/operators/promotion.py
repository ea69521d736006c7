"""From a challenger to a champion: evidence, an approval that names it, a compare-and-set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from evergreen_airflow.defaults import emit
from evergreen_airflow.failures import fails_plainly

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.settings import Settings

EVERYONE = "Anonymous"  # Airflow's name for whoever answers where no login is needed


class EvidenceApprovalOperator(ApprovalOperator):
    """Asks for an approval of one evidence document. No answer in time, and every answer but "Approve", mean no.

    The request, its answer and its end are kept in the ledger's database: the answer that Airflow has is only carried
    there. With `settings.promotion.approval: policy` the gates' verdict is enough and nobody is asked.

    :param judged: what the gates returned (`verdict`, `reason`, `evidence_digest`). Templated.
    :raises PromotionRefusedError: this user may not answer.
    """

    template_fields: Sequence[str] = ("judged",)

    def __init__(self, *, judged: Any, **kwargs: Any) -> None:
        kwargs["retries"] = 0  # a retry would ask again with the text of the first try
        kwargs["execution_timeout"] = None  # the wait has a limit of its own
        super().__init__(
            subject="Promote this model?",
            body="The evidence is shown here when the gates have passed.",
            defaults=self.REJECT,
            **kwargs,
        )
        self.judged = judged

    @fails_plainly
    def execute(self, context: Context) -> Any:
        """Asks, unless the verdict says no or the policy says yes."""
        from evergreen.promotion import approvals
        from evergreen.promotion.evidence import load_evidence
        from evergreen.promotion.ledger import current_user
        from evergreen.settings import load_settings
        from evergreen.settings.promotion import ApprovalMode

        settings = load_settings()
        if self.judged["verdict"] != "promote":
            raise AirflowSkipException(f"{self.judged['verdict']}: {self.judged['reason']}")
        evidence = load_evidence(settings, self.judged["evidence_digest"])
        request = approvals.request(settings, evidence.digest, user=current_user())
        if settings.promotion.approval is ApprovalMode.POLICY:
            approvals.decide(settings, evidence.digest, approvals.State.APPROVED, user=approvals.POLICY_USER)
            self.log.info("approved by policy (settings.promotion.approval)")
            return _answer(request.approval_id, approvals.State.APPROVED, approvals.POLICY_USER)
        if request.state is approvals.State.APPROVED:
            self.log.info("approved already by %s", request.decided_by)
            return _answer(request.approval_id, request.state, request.decided_by)
        from evergreen_airflow.evidence import body, subject

        self.subject, self.body = subject(evidence), body(evidence, settings)
        self.assigned_users = [{"id": user, "name": user} for user in settings.promotion.approvers]
        self.response_timeout = timedelta(hours=settings.promotion.approval_hours)
        return super().execute(context)

    @fails_plainly
    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Carries the answer to the ledger; what follows is skipped unless it is a yes."""
        from evergreen.errors import PromotionRefusedError
        from evergreen.promotion import approvals
        from evergreen.settings import load_settings

        settings = load_settings()
        digest = self.judged["evidence_digest"]
        answer = super(ApprovalOperator, self).execute_complete(context, event)
        user = _user(answer["responded_by_user"])
        if not user:
            raise AirflowSkipException(
                f"nobody answered within {settings.promotion.approval_hours:g} hours: not promoted"
            )
        approved = answer["chosen_options"] == [self.APPROVE]
        decision = approvals.State.APPROVED if approved else approvals.State.REJECTED
        request = approvals.latest(settings, digest)
        if request is None or request.state not in (approvals.State.PENDING, decision):
            state = request.state if request else "unknown"
            raise AirflowSkipException(f"the request for evidence {digest[:12]} is {state}: this answer came too late")
        try:
            decided = approvals.decide(settings, digest, decision, user=user)
        except PromotionRefusedError as error:
            self.log.error("%s", error)
            raise
        if not approved:
            raise AirflowSkipException(f"rejected by {user}: not promoted")
        return _answer(decided.approval_id, decided.state, decided.decided_by)


class PromoteOperator(BaseOperator):
    """Makes the approved candidate the champion by compare-and-set, points serving at it and mirrors MLflow's alias.

    :param judged: what the gates returned. Templated.
    :param approved: what the approval returned (`approval_id`, `user`). Templated.
    :raises PromotionRefusedError: the champion, the approval or the data are not what the evidence was judged with.
    """

    template_fields: Sequence[str] = ("judged", "approved")

    def __init__(self, *, judged: Any, approved: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.judged = judged
        self.approved = approved

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Promotes, and emits an event for the day of the champion's data."""
        from evergreen.promotion import champion as champions
        from evergreen.promotion import deployment
        from evergreen.promotion.evidence import load_evidence
        from evergreen.promotion.registry_mirror import mirror_champion
        from evergreen.settings import load_settings

        settings = load_settings()
        evidence = load_evidence(settings, self.judged["evidence_digest"])
        champion = champions.promote(
            settings,
            evidence.digest,
            approval_id=self.approved["approval_id"],
            expected_generation=evidence.generation,
            user=self.approved["user"],
        )
        deployment.point(settings, champion, user=self.approved["user"])
        mirror_champion(settings, champion)
        self.log.info(
            "version %s is champion, generation %s%s",
            *(champion.version, champion.generation, " (already)" if champion.already else ""),
        )
        emit(context, self.outlets, champion.data_day, _event(settings, champion.version, evidence.digest))
        return {
            "version": champion.version,
            "generation": champion.generation,
            "evidence_digest": champion.evidence_digest,
            "data_day": str(champion.data_day),
            "already": champion.already,
        }


class RollbackOperator(BaseOperator):
    """Brings an earlier champion back, bars the present one, points serving at it and mirrors MLflow's alias.

    :param to: a version that was champion; empty: the one before. Templated.
    :param reason: why; whoever releases the barred version later reads it. Templated.
    :raises PromotionRefusedError: there is no such version to go back to.
    """

    template_fields: Sequence[str] = ("to", "reason")

    def __init__(self, *, to: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.reason = reason

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Rolls back, and emits an event so that the newest day is scored anew."""
        from evergreen.lake import Lake, latest_release
        from evergreen.promotion.ledger import current_user
        from evergreen.promotion.registry_mirror import mirror_champion
        from evergreen.promotion.rollback import rollback
        from evergreen.settings import load_settings

        settings = load_settings()
        user = getattr(context["dag_run"], "triggering_user_name", None)
        champion = rollback(
            settings, self.to or None, reason=self.reason, user=current_user() if user in (None, EVERYONE) else user
        )
        mirror_champion(settings, champion)
        self.log.info("version %s is champion again, generation %s", champion.version, champion.generation)
        features = latest_release(Lake(settings.lake_path), "features")
        day = features.day if features else champion.data_day
        emit(context, self.outlets, day, _event(settings, champion.version, champion.evidence_digest))
        return {
            "version": champion.version,
            "generation": champion.generation,
            "data_day": str(champion.data_day),
            "reason": self.reason,
        }


def _event(settings: Settings, version: str, digest: str) -> dict[str, Any]:
    return {"model": settings.mlflow.model_name, "version": version, "evidence_digest": digest}


def _answer(approval_id: str, state: str, user: str) -> dict[str, str]:
    return {"approval_id": approval_id, "decision": str(state), "user": user}


def _user(responded: Any) -> str:
    """Who answered, empty where nobody did. Without logins it is the person whose machine this is."""
    from evergreen.promotion.ledger import current_user

    if not responded:
        return ""
    fields = responded if isinstance(responded, dict) else vars(responded)
    name = str(fields.get("id") or fields.get("name") or "")
    return current_user() if name == EVERYONE else name
