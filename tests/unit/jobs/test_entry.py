"""Jobs end with a JSON line or with one line of error; only faults of ours keep their traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evergreen.errors import LakeError
from evergreen.jobs.entry import run_job, told_plainly


def raising(error: Exception) -> dict[str, str]:
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LakeError("no such table"), "evergreen: no such table\n"),
        (OSError(28, "No space left on device"), "evergreen: the disk of "),
        (PermissionError(13, "Permission denied", "/lake"), "evergreen: /lake (Permission denied) cannot be used"),
    ],
)
def test_what_a_person_can_act_on_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    result = tmp_path / "result.json"
    assert run_job(lambda: raising(error), result) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not result.exists()


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_job(lambda: {"share": 1 / 0})


def test_a_result_that_cannot_be_written_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evergreen.jobs.entry.write_whole", lambda *_: raising(OSError(28, "No space left on device")))
    assert run_job(lambda: {}, tmp_path / "result.json") == 1
    captured = capsys.readouterr()
    assert "is full" in captured.err
    assert captured.out == ""


def test_the_result_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: {"rows": 3}, tmp_path / "result.json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "result.json").read_text()) == {"rows": 3}


def test_broken_settings_do_not_hide_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN__NONSENSE", "1")
    assert "is full" in str(told_plainly(OSError(28, "No space left on device")))
