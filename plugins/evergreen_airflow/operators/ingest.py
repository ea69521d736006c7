"""A day's purchase lines: waiting for them, then staging them by contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException

from evergreen_airflow.defaults import parse_day
from evergreen_airflow.failures import fails_plainly

if TYPE_CHECKING:
    from airflow.sdk import Context


class LandingSensor(BaseSensorOperator):
    """Waits until the source has the day. A day that the source will never have is skipped, and no event follows.

    :param day: the day of data. Templated.
    :param source: file, folder or URL; empty: the one that was run last, else the generated sample. Templated.
    """

    template_fields: Sequence[str] = ("day", "source")

    def __init__(self, *, day: str, source: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("mode", "reschedule")  # a wait of hours holds no worker
        kwargs.setdefault("soft_fail", True)  # nothing landed: nothing to do, freshness is monitored elsewhere
        super().__init__(**kwargs)
        self.day = day
        self.source = source

    @fails_plainly
    def poke(self, context: Context) -> bool:
        """True when the day can be read."""
        from evergreen.ingest.sources import FileSource, resolve_source
        from evergreen.settings import load_settings

        day = parse_day(self.day, context["run_id"])
        source = resolve_source(load_settings(), self.source)
        if source.ready(day):
            return True
        if isinstance(source, FileSource):  # a landing folder and a database grow, a file does not
            raise AirflowSkipException(f"{source.name} ends on {source.last_day()}: there is nothing for {day}")
        self.log.info("%s has nothing for %s yet", source.name, day)
        return False


class StageTransactionsOperator(BaseOperator):
    """Stages a day's lines by the canonical contract, and what the contract rejects as quarantine. Publishes nothing.

    :param day: the day of data, the last one of the range. Templated.
    :param start: first day of the range; empty: `day` alone. Templated.
    :param source: as in `LandingSensor`. Templated.
    :raises SourceError: the source cannot be read, or too many lines were rejected.
    """

    template_fields: Sequence[str] = ("day", "start", "source")

    def __init__(self, *, day: str, start: str = "", source: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.day = day
        self.start = start
        self.source = source

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Stages and returns the summary that checks and publishing start from."""
        from evergreen.ingest.stage import stage_transactions
        from evergreen.lake import Lake
        from evergreen.settings import load_settings

        settings = load_settings()
        day = parse_day(self.day, context["run_id"])
        start = parse_day(self.start) if self.start else day
        if start > day:
            raise ValueError(f"the range begins on {start}, after its last day {day}: swap them")
        staged = stage_transactions(settings, start, day, source=self.source, run_id=context["run_id"])
        summary = staged.save(Lake(settings.lake_path))
        self.log.info("%s to %s: %s", start, day, ", ".join(f"{key} {count}" for key, count in staged.counts.items()))
        return summary
