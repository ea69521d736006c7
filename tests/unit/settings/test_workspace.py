"""Workspaces: the first source has the home itself, every other one a folder of its own."""

from __future__ import annotations

import pytest

from evergreen.errors import SettingsError
from evergreen.settings.workspace import POINTER, choose, current_home, use, workspaces


def test_the_first_source_has_the_home_and_others_their_own(tmp_path):
    assert current_home(tmp_path) == tmp_path
    assert choose(tmp_path, "sample") == tmp_path
    other = choose(tmp_path, "online_retail-1234")
    assert other == tmp_path / "workspaces" / "online_retail-1234"
    assert current_home(tmp_path) == other
    assert choose(tmp_path, "sample") == tmp_path
    assert choose(tmp_path, "online_retail-1234") == other


def test_a_name_cannot_leave_the_folder(tmp_path):
    choose(tmp_path, "sample")
    assert choose(tmp_path, "../../etc").parent == tmp_path / "workspaces"


def test_all_of_them_are_listed_and_each_can_be_gone_to(tmp_path):
    assert workspaces(tmp_path) == []
    choose(tmp_path, "sample")
    shop = choose(tmp_path, "shop-1234")
    assert [(one.name, one.folder, one.current) for one in workspaces(tmp_path)] == [
        ("sample", tmp_path, False),
        ("shop-1234", shop, True),
    ]
    shop.mkdir(parents=True)
    assert use(tmp_path, "sample").folder == current_home(tmp_path) == tmp_path
    assert [one.current for one in workspaces(tmp_path)] == [True, False]
    assert use(tmp_path, "shop-1234").current
    assert current_home(tmp_path) == shop


def test_a_workspace_that_is_not_there_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(SettingsError, match=r"no workspace 'shop', must be one of: none yet: \./evergreen run"):
        use(tmp_path, "shop")
    choose(tmp_path, "sample")
    with pytest.raises(SettingsError, match=r"no workspace '\.\./etc', must be one of: sample"):
        use(tmp_path, "../etc")
    assert (tmp_path / POINTER).read_text() == ""
