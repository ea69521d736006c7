"""XGBoost as a candidate: what is not a model of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen.models.candidates.xgboost import Xgboost


def test_a_folder_without_boosters_is_refused(tmp_path: Path) -> None:
    """As a bundle of an older layout is, whose one file has another name: it would predict no number."""
    (tmp_path / "model.ubj").touch()
    with pytest.raises(ValueError, match=r"^there is no model-0\.ubj$"):
        Xgboost.load(tmp_path)
