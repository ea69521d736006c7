"""One commit a table makes staged days visible; the event that says so carries the day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from evergreen_airflow.defaults import emit, parse_day
from evergreen_airflow.failures import fails_plainly

if TYPE_CHECKING:
    from airflow.sdk import Context


class PublishOperator(BaseOperator):
    """Publishes a staged set and emits an event of each outlet for its day; same content publishes nothing new.

    :param staged: what the staging task returned (`manifest`, `day`, ...). Templated.
    :raises PublishRefusedError: another writer published one of the days first.
    """

    template_fields: Sequence[str] = ("staged",)

    def __init__(self, *, staged: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.staged = staged

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Publishes, releases, emits."""
        from evergreen.lake import Lake
        from evergreen.lake.staged_set import StagedSet, publish_set
        from evergreen.settings import load_settings

        staged = StagedSet.load(self.staged["manifest"])
        published = publish_set(Lake(load_settings().lake_path), staged, run_id=context["run_id"])
        if published["unchanged"]:
            self.log.info("nothing new: release %s of %s holds these rows already", published["release"], staged.name)
        else:
            self.log.info(
                "published release %s of %s: %s days, %s rows",
                *(published["release"], staged.name, published["changed_days"], published["rows"]),
            )
        extra = {key: published[key] for key in ("digest", "release", "unchanged", "earliest_changed")}
        emit(context, self.outlets, parse_day(str(staged.day)), extra)
        return published
