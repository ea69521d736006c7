"""Great Expectations as a gate before anything is published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.links import DataDocsLink, QualityLink, report_url

if TYPE_CHECKING:
    from airflow.sdk import Context


class GreatExpectationsOperator(BaseOperator):
    """Checks staged data against an expectation suite and stops the run where a `fail` expectation does not hold.

    :param suite: `transactions`, `features` or `training_set`.
    :param staged: what the staging task returned: a staged set's summary, or a training set's. Templated.
    :param accept_volume: `True` (as text, from a param) publishes a day of unusual volume after all. Templated.
    :raises DataQualityError: names the expectation, the observed value and the limit.
    """

    template_fields: Sequence[str] = ("staged", "accept_volume")
    operator_extra_links = (QualityLink(), DataDocsLink())

    def __init__(self, *, suite: str, staged: Any, accept_volume: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.suite = suite
        self.staged = staged
        self.accept_volume = accept_volume
        self.docs_url = ""
        self.quality_url = ""

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Validates; what was found is returned, and linked from the task also when it fails."""
        from evergreen.quality.runner import validate  # Great Expectations takes seconds to import
        from evergreen.settings import load_settings

        settings = load_settings()
        report = validate(
            self.suite,
            self.staged,
            settings,
            run_id=context["run_id"],
            accept_volume=self.accept_volume.lower() == "true",
        )
        self.docs_url = report_url(settings, report.docs_path)
        self.quality_url = report_url(settings, report.page_path)
        summary: dict[str, Any] = report.summary()
        report.raise_if_failed()
        return summary
