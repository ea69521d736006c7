from __future__ import annotations

import pytest

from tests.conftest import SHORT_HISTORY


@pytest.fixture(autouse=True)
def no_variables(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings as a new user has them: files and defaults alone."""
    for name in SHORT_HISTORY:
        monkeypatch.delenv(f"EVERGREEN__TRAINING__{name.upper()}")
