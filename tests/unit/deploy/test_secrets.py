"""Secrets are made once, differ, are for their owner alone, and weak ones are refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from evergreen.deploy.secrets import DERIVED, GENERATED, USERS, Secrets
from evergreen.errors import DeployError
from evergreen.settings.tree import PROJECT


@pytest.fixture
def made(tmp_path: Path) -> Secrets:
    secrets = Secrets(tmp_path / "secrets")
    assert set(secrets.make()) == set(GENERATED)
    return secrets


def replace(secrets: Secrets, name: str, content: str) -> None:
    (secrets.folder / name).unlink()
    (secrets.folder / name).write_text(content)


def test_new_ones_pass_and_are_for_their_owner_alone(made: Secrets) -> None:
    made.check()
    assert made.complete
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in made.folder.iterdir()} == {0o444}


def test_what_is_there_is_kept(made: Secrets) -> None:
    before = made.read("redis_password")
    (made.folder / "grafana_password").unlink()
    assert made.make() == ["grafana_password"]
    assert made.read("redis_password") == before


def test_a_changed_password_reaches_the_files_made_from_it(made: Secrets) -> None:
    replace(made, "ledger_db_password", "a-new-and-long-password")
    with pytest.raises(DeployError, match="ledger_db_url does not fit the secrets"):
        made.check()
    made.make()
    made.check()
    assert made.read("ledger_db_url") == "postgresql+psycopg2://ledger:a-new-and-long-password@postgres:5432/ledger"


@pytest.mark.parametrize(
    ("content", "why"),
    [("", "is missing or empty"), ("postgres", "too easy"), ("airflow", "too easy"), ("a" * 40, "too easy")],
)
def test_weak_ones_are_refused(made: Secrets, content: str, why: str) -> None:
    replace(made, "postgres_password", content)
    with pytest.raises(DeployError, match=f"postgres_password is .*{why.removeprefix('is ')}"):
        made.check()


def test_the_same_twice_is_refused(made: Secrets) -> None:
    replace(made, "feast_db_password", made.read("ledger_db_password"))
    with pytest.raises(DeployError, match=r"feast_db_password and ledger_db_password .* are the same"):
        made.check()


def test_a_folder_that_is_open_to_others_is_refused(made: Secrets) -> None:
    made.folder.chmod(0o755)
    with pytest.raises(DeployError, match="chmod 700"):
        made.check()


def test_without_any_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"\./evergreen deploy --secrets"):
        Secrets(tmp_path / "none").check()


def test_every_secret_that_compose_mounts_is_made() -> None:
    compose = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())
    files = {entry["file"].rpartition("/")[2] for entry in compose["secrets"].values()}
    assert files <= {*GENERATED, *DERIVED}
    users = compose["x-airflow-environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    assert dict(pair.split(":") for pair in users.split(",")) == USERS
