"""`./evergreen airflow ...` hands everything on to Airflow."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from evergreen.cli.app import app
from evergreen.platform.airflow import LocalAirflow


@pytest.mark.parametrize("code", [0, 3])
def test_arguments_and_exit_code_are_airflows(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    given: list[str] = []

    def command(_: LocalAirflow, arguments: list[str]) -> int:
        given.extend(arguments)
        return code

    monkeypatch.setattr(LocalAirflow, "command", command)
    arguments = ["dags", "test", "score_batch", "-c", '{"day": "2011-08-31"}', "--help"]
    assert CliRunner().invoke(app, ["airflow", *arguments]).exit_code == code
    assert given == arguments
