"""A PostgreSQL of its own, made as docker-compose.yaml makes one."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from evergreen.settings.tree import PROJECT

IMAGE = "postgres:17"
PARTS = ("airflow", "mlflow", "feast", "ledger")


@dataclass(frozen=True)
class Postgres:
    """A container with a database for each part."""

    container: str
    address: str  # of a part's role in a database, to be formatted with both

    def url(self, part: str, database: str = "") -> str:
        """SQLAlchemy's address."""
        return self.address.format(part=part, database=database or part)

    def answers(self, part: str, database: str = "") -> bool:
        """Whether a part's role gets in."""
        engine = create_engine(self.url(part, database))
        try:
            with engine.connect():
                return True
        except DBAPIError:
            return False
        finally:
            engine.dispose()


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {IMAGE} is not here, and tests pull nothing")
    secrets: Path = tmp_path_factory.mktemp("secrets")
    secrets.chmod(0o755)  # the user postgres of the container reads them
    password = uuid.uuid4().hex
    for part in ("postgres", *PARTS):
        (secrets / f"{part}{'' if part == 'postgres' else '_db'}_password").write_text(password)
    script = PROJECT / "docker" / "postgres" / "databases.sh"
    container = docker(
        *("run", "-d", "--rm", "-e", "POSTGRES_USER=postgres"),
        *("-e", "POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password"),
        *("-v", f"{secrets}:/run/secrets:ro", "-v", f"{script}:/docker-entrypoint-initdb.d/databases.sh:ro"),
        *("-p", "127.0.0.1::5432", IMAGE),
    )  # fmt: skip
    try:
        port = docker("port", container, "5432").split(":")[1].split()[0]
        made = Postgres(container, f"postgresql+psycopg2://{{part}}:{password}@127.0.0.1:{port}/{{database}}")
        deadline = time.monotonic() + 60
        while not made.answers("ledger"):
            assert time.monotonic() < deadline, "the database did not start in 60 s"
            time.sleep(0.3)
        yield made
    finally:
        docker("rm", "-f", container)
