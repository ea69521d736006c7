"""A search whose trials are kept on a real PostgreSQL: killed in the middle, beside others, and gone on with."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.searches import TRIALS, kill_after, lines_of, start, told_of, trials_of
from tests.weekly_set import make_set

pytestmark = [pytest.mark.docker, pytest.mark.fault]

IMAGE = "postgres:17"
PASSWORD = uuid.uuid4().hex
STORAGE = "EVERGREEN__TRAINING__SEARCH__STORAGE_URL"
PARALLEL = {"EVERGREEN__TRAINING__SEARCH__PARALLEL": "2"}

Database = Callable[[], str]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a PostgreSQL of its own, on a port that the engine chooses, without the scheme."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {IMAGE} is not here, and tests pull nothing")
    run = ["docker", "run", "-d", "--rm", "-e", f"POSTGRES_PASSWORD={PASSWORD}", "-p", "127.0.0.1::5432", IMAGE]
    container = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    try:
        port = subprocess.run(["docker", "port", container, "5432"], capture_output=True, text=True, check=True)
        address = f"postgres:{PASSWORD}@127.0.0.1:{port.stdout.split(':')[1].split()[0]}"
        deadline = time.monotonic() + 120
        while not _answers(address):
            assert time.monotonic() < deadline, "the database did not start in 120 s"
            time.sleep(0.3)
        yield address
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)


def _answers(address: str) -> bool:
    try:
        with create_engine(f"postgresql+psycopg2://{address}/postgres").connect():
            return True
    except DBAPIError:
        return False


@pytest.fixture
def database(server: str) -> Database:
    """Makes an empty database and gives its URL, as the page about searches spells it."""

    def make() -> str:
        name = f"searches_{uuid.uuid4().hex[:12]}"
        engine = create_engine(f"postgresql+psycopg2://{server}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return f"postgresql://{server}/{name}"

    return make


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    make_set(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Trials of the same search that nobody killed, kept in SQLite."""
    return trials_of(lines_of(start(training_set, tmp_path_factory.mktemp("undisturbed")))[-1])


def test_a_killed_search_goes_on_where_it_was_as_with_sqlite(
    training_set: Path, undisturbed: list[dict], database: Database, tmp_path: Path
) -> None:
    storage = {STORAGE: database()}
    for _ in range(2):  # killed twice, some trials apart
        kill_after(start(training_set, tmp_path, storage), 2)
    lines = lines_of(start(training_set, tmp_path, storage))
    assert len(told_of(lines)) <= TRIALS - 4  # what had ended was not judged again
    assert trials_of(lines[-1]) == undisturbed
    assert not list(tmp_path.rglob("studies.db")), "nothing is kept in SQLite"


def test_in_another_database_it_begins_anew(
    training_set: Path, undisturbed: list[dict], database: Database, tmp_path: Path
) -> None:
    """Control: the database is what it goes on from."""
    kill_after(start(training_set, tmp_path, {STORAGE: database()}), 4)
    lines = lines_of(start(training_set, tmp_path, {STORAGE: database()}))
    assert len(told_of(lines)) == TRIALS
    assert trials_of(lines[-1]) == undisturbed


def test_two_at_once_lose_no_trial_when_they_are_killed(training_set: Path, database: Database, tmp_path: Path) -> None:
    url = database()
    kill_after(start(training_set, tmp_path, {STORAGE: url, **PARALLEL}), 3)
    before = states_of(url)
    assert before.count("RUNNING") >= 1  # control: it was killed in the middle of some
    ended = before.count("COMPLETE") + before.count("PRUNED")
    lines = lines_of(start(training_set, tmp_path, {STORAGE: url, **PARALLEL}))
    assert len(told_of(lines)) == TRIALS - ended
    assert len(trials_of(lines[-1])) == TRIALS
    after = states_of(url)
    assert after.count("COMPLETE") + after.count("PRUNED") == TRIALS
    assert {"RUNNING", "WAITING"} & set(after) == set()
    assert after.count("FAIL") == before.count("RUNNING"), "those that nobody judged any more were taken back"


def test_a_search_ends_as_it_would_beside_one_that_is_killed(
    training_set: Path, undisturbed: list[dict], database: Database, tmp_path: Path
) -> None:
    """Two processes write to the same tables."""
    url = database()
    other = {STORAGE: url, "EVERGREEN__TRAINING__SEED": "3"}  # another study
    survives = start(training_set, tmp_path / "one", {STORAGE: url})
    killed = start(training_set, tmp_path / "other", other)
    kill_after(killed, 2)
    assert trials_of(lines_of(survives)[-1]) == undisturbed
    lines = lines_of(start(training_set, tmp_path / "other", other))
    assert len(told_of(lines)) <= TRIALS - 2
    found = json.loads(lines[-1])
    assert len(found["table"]) == TRIALS
    assert trials_of(lines[-1]) != undisturbed


def states_of(url: str) -> list[str]:
    """States of the trials of a database with one study, oldest first."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg2:"))
    with engine.connect() as connection:
        found = [row[0] for row in connection.execute(text("SELECT state FROM trials ORDER BY number"))]
    engine.dispose()
    return found
