"""Evidently's report, and the verdict that a gate reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from evergreen_airflow.assets import CHALLENGER
from evergreen_airflow.defaults import parse_day
from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.links import ReportLink, report_url

if TYPE_CHECKING:
    from airflow.sdk import Context


class EvidentlyReportOperator(BaseOperator):
    """Compares current features and predictions with those that a model was trained on, by named tests.

    Which challenger is meant says the event that started the run; started by hand, it is the registry's present one,
    which must have been trained on `day`.

    :param day: day of the challenger's data. Templated.
    """

    template_fields: Sequence[str] = ("day",)
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, day: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.day = day
        self.report_url = ""

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Writes the report; returns the challenger with the verdict about its data."""
        from evergreen.promotion.judge import challenger_of, drift_of
        from evergreen.settings import load_settings

        settings = load_settings()
        day = parse_day(self.day, context["run_id"])
        challenger = challenger_from_events(context) or challenger_of(settings, day)
        drift = drift_of(settings, challenger)
        self.report_url = report_url(settings, drift["report"])
        self.log.info("drift: %s%s", drift["verdict"], f" ({drift['reason']})" if drift["reason"] else "")
        return {"challenger": dict(challenger), "drift": drift}


def challenger_from_events(context: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest challenger among the events that started the run, None where none did."""
    events = [event for found in context.get("triggering_asset_events", {}).values() for event in found]
    ours = [event for event in events if event.asset.name == CHALLENGER.name and (event.extra or {}).get("challenger")]
    if not ours:
        return None
    return dict(max(ours, key=lambda event: event.timestamp).extra["challenger"])
