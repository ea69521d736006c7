"""Workspaces: the first source has the home itself, every other one a folder of its own."""

from __future__ import annotations

from evergreen.settings.workspace import choose, current_home


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
