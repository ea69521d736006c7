"""Fixtures of tests that need a real engine, database or server."""

from __future__ import annotations

from tests.unit.conftest import filled_shop, filled_training_set

__all__ = ["filled_shop", "filled_training_set"]
