"""Settings of quality checks."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class QualitySettings(Section):
    """Settings of quality checks."""
