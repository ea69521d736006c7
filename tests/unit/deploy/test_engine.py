"""What is asked of the Docker command line, with a script in its place."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from evergreen.deploy.engine import Engine
from evergreen.errors import DeployError


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """Says its arguments and its input; fails where they hold `boom`."""
    docker = tmp_path / "docker"
    docker.write_text(
        '#!/bin/sh\ncase "$*" in *boom*) echo first; echo last >&2; exit 3;; esac\n'
        'case "$1" in top) printf "PID USER\\n1 root\\n7 50000\\n"; exit;; esac\necho "$*"; cat\n'
    )
    docker.chmod(0o755)
    return Engine(str(docker), (str(docker), "compose"))


def test_a_command_gets_its_input_and_gives_its_output(engine: Engine, tmp_path: Path) -> None:
    assert engine.run_in("c", ["psql", "-x"], user="postgres", given="in") == "exec -i --user postgres c psql -x\nin"
    (tmp_path / "dump").write_text("rows")
    assert engine.run_in("c", ["cat"], given=tmp_path / "dump") == "exec -i c cat\nrows"


def test_a_file_of_output_is_for_its_owner_alone(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert engine.run_in("c", ["pg_dump"], to=file) == ""
    assert file.read_text() == "exec -i c pg_dump\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_failed_is_told_by_its_last_line(engine: Engine) -> None:
    with pytest.raises(DeployError, match=r"^boom in c failed: last$"):
        engine.run_in("c", ["boom"])
    with pytest.raises(DeployError, match=r"^compose boom failed: last$"):
        engine.run_compose(["boom"], {})
    with pytest.raises(DeployError, match=r"^a:boom was not built: last$"):
        engine.derive("a:boom", "FROM a")


def test_another_compose_file_has_the_projects_paths(engine: Engine, tmp_path: Path) -> None:
    told = engine.run_compose(["up"], {}, file=tmp_path / "kept.yaml")
    assert told.startswith(f"compose -f {tmp_path / 'kept.yaml'} --project-directory /")
    assert told.strip().endswith(" up")


def test_the_users_of_processes_are_read(engine: Engine) -> None:
    assert engine.processes("c") == ["root", "50000"]
