"""Feast: what was published becomes servable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from evergreen_airflow.defaults import emit, parse_day
from evergreen_airflow.failures import fails_plainly

if TYPE_CHECKING:
    from airflow.sdk import Context


class FeastMaterializeOperator(BaseOperator):
    """Brings the online store up to the newest release of features, and compares a sample of it with the offline store.

    :param published: what the publishing task returned (`name`, `day`, `release`, ...). Templated.
    :raises FeatureStoreError: online and offline features disagree.
    """

    template_fields: Sequence[str] = ("published",)

    def __init__(self, *, published: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.published = published

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Materializes, checks, and emits an event for the day: what starts on it may read online too."""
        from evergreen.features.materialize import materialize
        from evergreen.lake import Lake, latest_release
        from evergreen.settings import load_settings

        settings = load_settings()
        release = latest_release(Lake(settings.lake_path), "features")
        assert release is not None  # it was just published
        report = materialize(settings, release)
        extra = {key: self.published[key] for key in ("digest", "release", "unchanged", "earliest_changed")}
        emit(context, self.outlets, parse_day(self.published["day"]), extra)
        return report
