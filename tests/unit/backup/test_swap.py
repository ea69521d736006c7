"""Putting a home in the place of another, with disks of their own below it, and killed after every move."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from evergreen.backup import swap


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def occupied(home: Path) -> Path:
    """A home with old files, and a draft of new ones in it."""
    for name in ("lake/t/old", "models/a/old", "models/trained/k/old", "ledger/ledger.db", "feast/online.db"):
        write(home / name, "old")
    for name in ("workspaces/other/x", "logs/a.log", "workspace.owner"):
        write(home / name, "stays")
    (home / "airflow").mkdir()
    for name in ("lake/t/new", "models/b/new", "ledger/ledger.db"):
        write(home / swap.DRAFT / swap.NEW / name, "new")
    return home


def contents(home: Path) -> dict[str, str]:
    return {str(path.relative_to(home)): path.read_text() for path in sorted(home.rglob("*")) if path.is_file()}


NEW = {
    "lake/t/new": "new", "models/b/new": "new", "ledger/ledger.db": "new",
    "workspaces/other/x": "stays", "logs/a.log": "stays", "workspace.owner": "stays",
}  # fmt: skip
OLD = {
    f"aside/{name}": "old"
    for name in ("lake/t/old", "models/a/old", "models/trained/k/old", "ledger/ledger.db", "feast/online.db")
}


def test_what_counts_as_occupied(occupied, tmp_path):
    assert swap.occupied(occupied) == ["feast", "lake", "ledger", "models"]
    assert swap.occupied(tmp_path / "nowhere") == []


def test_a_lock_and_empty_folders_are_nothing(home):
    write(home / "ledger" / "ledger.lock", "")
    (home / "models" / "trained").mkdir(parents=True)
    assert swap.occupied(home) == []


def test_new_in_old_aside_the_rest_stays(occupied):
    swap.finish(occupied, swap.begin(occupied, Path("b"), "replaced-aside"))
    (occupied / "replaced-aside").rename(occupied / "aside")
    assert contents(occupied) == NEW | OLD
    assert swap.begun(occupied) is None


@pytest.mark.parametrize("mounted", [False, True])
def test_killed_after_any_move_another_try_finishes(occupied, monkeypatch, mounted):
    """A mount point cannot be renamed, nor anything be renamed across it."""
    mount = occupied / "models" / "trained"
    move = Path.rename
    if mounted:
        disk = SimpleNamespace(mountpoint=str(mount))
        monkeypatch.setattr(swap.psutil, "disk_partitions", lambda **_: [disk])

        def rename(source: Path, target: Path) -> Path:
            if mount.is_relative_to(source):
                raise OSError(errno.EBUSY, "a mount point")
            if source.is_relative_to(mount) != Path(target).is_relative_to(mount):
                raise OSError(errno.EXDEV, "another disk")
            return move(source, target)
    else:
        rename = move
    left = 0

    def killed(source: Path, target: Path) -> Path:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", killed)
    swap.begin(occupied, Path("b"), "replaced-aside")
    for tries in range(40):
        journal = swap.begun(occupied)
        if journal is None:
            break
        left = tries % 3  # moves in this life; one across disks takes two renames
        try:
            swap.finish(occupied, journal)
        except KeyboardInterrupt:
            continue
    assert 5 < tries < 39
    assert mount.is_dir() == mounted
    move(occupied / "replaced-aside", occupied / "aside")
    assert contents(occupied) == NEW | OLD


def test_a_draft_that_was_not_begun_is_discarded(occupied):
    before = {name: text for name, text in contents(occupied).items() if not name.startswith(".")}
    assert swap.begun(occupied) is None
    swap.discard(occupied)
    assert contents(occupied) == before
