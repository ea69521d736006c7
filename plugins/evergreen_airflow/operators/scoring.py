"""The champion's ranked predictions for every pair."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from evergreen_airflow.defaults import HEAVY_POOL, parse_day
from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.operators.process import JobProcess
from evergreen_airflow.operators.training import newest_published_day

if TYPE_CHECKING:
    from airflow.sdk import Context


class ScoreOperator(BaseOperator):
    """Scores all pairs as of the day after `day` with the champion; skipped where there is no champion yet.

    A day older than the newest published one is skipped, unless `force`: its customers are not served any more.

    :param day: the day of data. Templated.
    :param force: `True` (as text, from a param) scores older days too. Templated.
    """

    template_fields: Sequence[str] = ("day", "force")

    def __init__(self, *, day: str, force: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("pool", HEAVY_POOL)
        super().__init__(**kwargs)
        self.day = day
        self.force = force
        self._job: JobProcess | None = None

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Runs the scoring job with the champion's bundle and returns what it published."""
        from evergreen.promotion import champion as champions
        from evergreen.settings import load_settings

        settings = load_settings()
        day = parse_day(self.day, context["run_id"])
        champion = champions.current(settings)
        if champion is None:
            raise AirflowSkipException("there is no champion yet: promote_model makes the first one")
        newest = newest_published_day(settings)
        if newest is not None and day < newest and self.force.lower() != "true":
            raise AirflowSkipException(f"{day} is not the newest published day, {newest} is")
        arguments = {
            "--as-of": day + timedelta(days=1),
            "--bundle": champions.bundle_folder(settings, champion.bundle_digest),
            "--digest": champion.bundle_digest,
            "--model-version": champion.version,
            "--run-id": context["run_id"],
        }
        self._job = JobProcess("evergreen.jobs.score_batch", [str(part) for pair in arguments.items() for part in pair])
        return self._job.run(self.log.info)

    def on_kill(self) -> None:
        """Ends the job."""
        if self._job is not None:
            self._job.kill()
