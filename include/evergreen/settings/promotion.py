"""Settings of promotion and the ledger."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class PromotionSettings(Section):
    """Settings of promotion and the ledger."""
