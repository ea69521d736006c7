"""Settings of feature jobs and the feature store."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class FeaturesSettings(Section):
    """Settings of feature jobs and the feature store."""
