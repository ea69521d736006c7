"""`reproduce`: a table for people, JSON for programs, exit code 1 that names the first difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evergreen.cli import app as commands
from evergreen.cli.reproduce import train
from evergreen.errors import ReproductionError
from evergreen.promotion import reproduction
from evergreen.promotion.reproduction import Comparison, Outcome, Reproduction

CODE = Comparison("code", "a" * 64, "b" * 64, Outcome.CHANGED)
SAME = Comparison("bundle", "c" * 64, "c" * 64, Outcome.EQUAL)
OTHER = Comparison("bundle", "c" * 64, "d" * 64, Outcome.DIFFERENT, "its manifest has other seed")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command, given what the reproduction finds."""

    def run(found: list[Comparison], *arguments: str) -> tuple[int, str, str]:
        def made(_: Any, version: str, work: Path, **__: Any) -> Reproduction:
            (work / "bundle").mkdir()
            return Reproduction(version, found, "0123abc")

        monkeypatch.setattr(reproduction, "reproduce", made)
        monkeypatch.setattr("sys.argv", ["evergreen", "reproduce", *arguments])
        with pytest.raises(SystemExit) as ended:
            commands.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_what_is_equal_is_told_and_nothing_is_left(command: Command, home: Path) -> None:
    code, out, _ = command([CODE, SAME], "1")
    assert code == 0
    assert "cccccccccccc" in out
    assert "changed since" in out
    assert "version 1 is reproduced bit for bit in 0 s" in out
    assert list((home / "reproductions").iterdir()) == []


def test_the_first_difference_is_one_line_and_exit_code_1(command: Command) -> None:
    code, out, err = command([CODE, OTHER], "2")
    assert code == 1
    assert "different" in out
    assert err == (
        "evergreen: version 2 is not reproduced: bundle is dddddddddddd, recorded is cccccccccccc "
        "(its manifest has other seed). Changed since: code; it was made from commit 0123abc "
        "(docs/how-to/reproduce-a-model.md)\n"
    )


def test_json_is_one_line_also_where_something_differs(command: Command) -> None:
    code, out, _ = command([OTHER], "2", "--json")
    document = json.loads(out)
    assert code == 1
    assert document["reproduced"] is False
    assert document["compared"][0]["outcome"] == "different"


def test_what_was_made_can_be_kept_in_a_new_folder(command: Command, tmp_path: Path) -> None:
    assert command([SAME], "1", "--keep", str(tmp_path / "kept"))[0] == 0
    assert (tmp_path / "kept" / "bundle").is_dir()
    code, _, err = command([SAME], "1", "--keep", str(tmp_path / "kept"))
    assert code == 1
    assert "is not empty, expected a new folder" in err


def test_a_trainer_that_refuses_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ReproductionError, match=r"the trainer ended with code 1: training spec .*: candidate is"):
        train({}, tmp_path / "bundle")
