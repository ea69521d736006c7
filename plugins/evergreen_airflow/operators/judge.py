"""The gates, and the evidence that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.links import CardLink, ReportLink, report_url

if TYPE_CHECKING:
    from airflow.sdk import Context


class PromotionGateOperator(BaseOperator):
    """Evaluates the challenger on the holdout beside the champion, runs every gate, and writes the evidence document.

    A verdict that is not `promote` is no failure: the run goes on to skip the rest, with the reason.

    :param drift: what `EvidentlyReportOperator` returned: the challenger and the verdict about its data. Templated.
    """

    template_fields: Sequence[str] = ("drift",)
    operator_extra_links = (ReportLink(), CardLink())

    def __init__(self, *, drift: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drift = drift
        self.report_url = ""
        self.card_url = ""

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Judges; returns `verdict`, `reason`, `evidence_digest`, and the reports' paths."""
        from evergreen.promotion.judge import UNCHANGED, judge_challenger
        from evergreen.promotion.registry_mirror import attach_reports, detect_tampering
        from evergreen.settings import load_settings

        settings = load_settings()
        mirror = detect_tampering(settings)
        if mirror.tampered:
            self.log.warning("MLflow's alias is version %s, the champion is %s", mirror.seen, mirror.expected)
        judged = judge_challenger(
            settings, self.drift["challenger"], drift=self.drift["drift"], run_id=context["run_id"]
        )
        self.report_url = report_url(settings, judged["reports"].get("evaluation"))
        self.card_url = report_url(settings, judged["reports"].get("card"))
        if judged["verdict"] != UNCHANGED:
            attach_reports(settings, judged)
        self.log.info("%s: %s (evidence %s)", judged["verdict"], judged["reason"], judged["evidence_digest"][:12])
        self.log.info("report: %s", self.report_url or judged["reports"].get("evaluation"))
        return judged
