"""Databases of a real PostgreSQL are dumped and put back: rows, owners and closed doors, all of them or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from evergreen.deploy.databases import Databases
from evergreen.deploy.engine import Engine
from evergreen.errors import DeployError
from tests.integration.compose.conftest import Postgres

pytestmark = pytest.mark.docker


@pytest.fixture
def databases(postgres: Postgres) -> Databases:
    return Databases(Engine("docker", ("docker", "compose")), postgres.container)


def run(postgres: Postgres, part: str, sql: str) -> list[tuple[object, ...]]:
    with create_engine(postgres.url(part), poolclass=NullPool).begin() as connection:
        done = connection.execute(text(sql))
        return [tuple(row) for row in done] if done.returns_rows else []


@pytest.fixture
def migrated(postgres: Postgres, databases: Databases, tmp_path: Path) -> dict[str, Path]:
    """Dumps of two databases that were changed since, as a release changes them."""
    for part in ("airflow", "feast"):
        run(postgres, part, "DROP TABLE IF EXISTS kept, later, alembic_version")
        run(postgres, part, "CREATE TABLE kept (mark text); INSERT INTO kept VALUES ('✓ Zoë')")
        run(
            postgres, part, "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('a1')"
        )
    dumps = {part: tmp_path / f"{part}.dump" for part in ("airflow", "feast")}
    for part, file in dumps.items():
        databases.dump(part, file)
        run(postgres, part, "ALTER TABLE kept ADD COLUMN more text; INSERT INTO kept VALUES ('planted', 'x')")
        run(postgres, part, "CREATE TABLE later (n int); UPDATE alembic_version SET version_num = 'a2'")
    return dumps


def test_what_was_dumped_comes_back_while_somebody_is_connected(
    postgres: Postgres, databases: Databases, migrated: dict[str, Path]
) -> None:
    assert databases.schema("airflow") == "a2"
    session = create_engine(postgres.url("airflow"), poolclass=NullPool).connect()
    session.execute(text("SELECT 1"))
    databases.put_back(migrated)
    session.invalidate()
    for part in migrated:
        assert run(postgres, part, "SELECT * FROM kept") == [("✓ Zoë",)]
        assert run(postgres, part, "SELECT to_regclass('later')") == [(None,)]
        assert databases.schema(part) == "a1"
        run(postgres, part, "INSERT INTO kept VALUES ('its owner writes')")
    assert not postgres.answers("feast", "airflow"), "closed to others as before"
    assert not databases.ask("postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%\\_draft'")
    assert databases.ask("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE '%replaced'") == ["0"]
    assert databases.schema("ledger") == "", "nobody migrates it"


def test_one_that_cannot_be_read_leaves_all_as_they_were(
    postgres: Postgres, databases: Databases, migrated: dict[str, Path]
) -> None:
    whole = migrated["feast"].read_bytes()
    migrated["feast"].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeployError, match=r"^sh in .* failed: pg_restore: "):
        databases.put_back(migrated)
    for part in migrated:
        assert databases.schema(part) == "a2"
    migrated["feast"].write_bytes(whole)
    databases.put_back(migrated)  # control: and again after a failure
    assert [databases.schema(part) for part in migrated] == ["a1", "a1"]
