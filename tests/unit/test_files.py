"""A file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen.files import write_whole


def test_it_is_written_with_its_folder_and_nothing_beside(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.json"
    write_whole(file, "one")
    write_whole(file, "two")
    assert file.read_text() == "two"
    assert list(file.parent.iterdir()) == [file]


def test_what_could_not_be_written_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "b.json"
    write_whole(file, "old")

    def half(path: Path, text: str) -> None:
        path.write_bytes(text[:1].encode())
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="No space"):
            write_whole(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
