"""What the database's image runs once: a database for each part, in UTF-8, closed to the others."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from evergreen.settings.tree import PROJECT

pytestmark = pytest.mark.docker

IMAGE = "postgres:17"
PARTS = ("airflow", "mlflow", "feast", "ledger")


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`postgresql+psycopg2://{part}:password@host:port`, to be formatted with a part and a database."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {IMAGE} is not here, and tests pull nothing")
    secrets: Path = tmp_path_factory.mktemp("secrets")
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
        found = f"postgresql+psycopg2://{{part}}:{password}@127.0.0.1:{port}/{{database}}"
        deadline = time.monotonic() + 60
        while not _answers(found.format(part="ledger", database="ledger")):
            assert time.monotonic() < deadline, "the database did not start in 60 s"
            time.sleep(0.3)
        yield found
    finally:
        docker("rm", "-f", container)


def _answers(address: str) -> bool:
    try:
        with create_engine(address).connect():
            return True
    except DBAPIError:
        return False


@pytest.mark.parametrize("part", PARTS)
def test_a_part_keeps_any_text_in_a_database_that_no_other_part_may_enter(url: str, part: str) -> None:
    with create_engine(url.format(part=part, database=part)).begin() as connection:
        assert connection.execute(text("SHOW server_encoding")).scalar() == "UTF8"
        connection.execute(text("CREATE TABLE marks (mark text)"))
        connection.execute(text("INSERT INTO marks VALUES (:mark)"), {"mark": "✓ Zoë"})
        assert connection.execute(text("SELECT mark FROM marks")).scalar() == "✓ Zoë"
    for other in {*PARTS, "postgres"} - {part}:
        assert not _answers(url.format(part=part, database=other)), other
