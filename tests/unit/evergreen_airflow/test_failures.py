"""Tasks say in one line what a person can act on, and keep the rest as it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from evergreen.errors import DiskFullError, LakeError
from evergreen_airflow import failures

OPERATORS = Path(failures.__file__).parent / "operators"


@failures.fails_plainly
def task(error: Exception | None = None) -> int:
    """Does something."""
    if error:
        raise error
    return 7


def test_what_goes_well_goes_through() -> None:
    assert task() == 7
    assert task.__doc__ == "Does something."


def test_a_full_disk_is_named_and_its_cause_kept() -> None:
    cause = OSError(28, "No space left on device")
    with pytest.raises(DiskFullError, match="is full") as told:
        task(cause)
    assert told.value.__cause__ is cause


@pytest.mark.parametrize("error", [LakeError("no such table"), ZeroDivisionError()])
def test_our_own_errors_and_faults_of_ours_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        task(error)
    assert raised.value is error


@pytest.mark.parametrize("file", sorted(OPERATORS.glob("[!_]*.py")), ids=lambda file: file.stem)
def test_every_operator_fails_plainly(file: Path) -> None:
    bare = [
        f"{kind.name}.{method.name}"
        for kind in ast.parse(file.read_text()).body
        if isinstance(kind, ast.ClassDef)
        for method in kind.body
        if isinstance(method, ast.FunctionDef) and method.name in ("execute", "execute_complete", "poke")
        if "fails_plainly" not in [ast.unparse(decorator) for decorator in method.decorator_list]
    ]
    assert bare == [], "put @fails_plainly (evergreen_airflow.failures) before it: a full disk must be told in one line"
