"""Settings of evaluation and drift."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class EvaluationSettings(Section):
    """Settings of evaluation and drift."""
