"""The commit that a model is registered with: from git, else from the image's build."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from evergreen.training import provenance
from evergreen.training.provenance import revision

BUILT = "b" * 40


@pytest.fixture
def outside_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project as it lies in an image."""
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("EVERGREEN_REVISION", raising=False)


@pytest.mark.usefixtures("outside_of_git")
@pytest.mark.parametrize("git", [True, False], ids=["no repository", "no git"])
def test_an_image_knows_what_its_build_was_told(monkeypatch: pytest.MonkeyPatch, git: bool) -> None:
    if not git:
        monkeypatch.setenv("PATH", "")
    assert revision() == "unknown"  # control: nobody was told
    monkeypatch.setenv("EVERGREEN_REVISION", BUILT)
    assert revision() == BUILT


@pytest.mark.usefixtures("outside_of_git")
def test_a_repository_is_believed_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_REVISION", BUILT)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert revision() == head != BUILT
