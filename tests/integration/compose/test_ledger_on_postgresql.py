"""The ledger on a real PostgreSQL: append-only, one writer at a time, and the same rules as on SQLite."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from evergreen.errors import PromotionRefusedError
from evergreen.promotion import champion
from evergreen.promotion.champion import Champion
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import Settings, load_settings
from tests.unit.promotion.conftest import approve, make_evidence, promote_version

__all__ = ["approve", "make_evidence", "promote_version"]  # fixtures
pytestmark = pytest.mark.docker

IMAGE = "postgres:17"
PASSWORD = uuid.uuid4().hex


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a PostgreSQL of its own, on a port that the engine chooses."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {IMAGE} is not here, and tests pull nothing")
    run = ["docker", "run", "-d", "--rm", "-e", f"POSTGRES_PASSWORD={PASSWORD}", "-p", "127.0.0.1::5432", IMAGE]
    container = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    try:
        port = subprocess.run(["docker", "port", container, "5432"], capture_output=True, text=True, check=True)
        url = f"postgresql+psycopg2://postgres:{PASSWORD}@127.0.0.1:{port.stdout.split(':')[1].split()[0]}"
        _await(f"{url}/postgres")
        yield url
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)


def _await(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with create_engine(url).connect():
                return
        except DBAPIError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


@pytest.fixture
def settings(server: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose ledger is an empty database on that server."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    with create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    monkeypatch.setenv("EVERGREEN__PROMOTION__LEDGER_URL", f"{server}/{name}")
    return load_settings("local")


def test_the_chain_holds(settings: Settings) -> None:
    ledger = Ledger(settings)
    for number in range(3):
        ledger.append(Entry("test", metrics={"number": number}))
    assert ledger.verify().intact
    assert [sealed.entry.metrics["number"] for sealed in Ledger(settings).entries()] == [0, 1, 2]
    with create_engine(settings.promotion.ledger_url).connect() as connection:
        assert connection.execute(text("SELECT operation FROM audit_log")).scalars().all() == ["test"] * 3


@pytest.mark.parametrize("table", ["ledger_entries", "champions"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET ledger_sequence = 9", "TRUNCATE {}"])
def test_history_cannot_be_changed(
    settings: Settings, promote_version: Callable[..., Champion], table: str, change: str
) -> None:
    promote_version("1")
    statement = change.format(table)
    if table == "ledger_entries":
        statement = statement.replace("ledger_sequence = 9", "body = ''")
    engine = create_engine(settings.promotion.ledger_url)
    with engine.begin() as connection, pytest.raises(DBAPIError, match=f"{table} is append-only"):
        connection.execute(text(statement))
    assert Ledger(settings).verify().intact
    with engine.begin() as connection:  # control: other tables can be changed
        connection.execute(text("UPDATE approvals SET decided_by = decided_by"))


def test_of_two_promotions_at_once_one_wins(
    settings: Settings, make_evidence: Callable[..., str], approve: Callable[[str], str]
) -> None:
    """Both were judged against no champion; the loser is refused by the rule, not by the database."""
    digests = [make_evidence("1"), make_evidence("2")]
    answers = [approve(digest) for digest in digests]
    results: list[object] = []
    start = threading.Barrier(2)

    def promote(digest: str, answer: str) -> None:
        start.wait()
        try:
            results.append(
                champion.promote(settings, digest, approval_id=answer, expected_generation=0, user="airflow").version
            )
        except PromotionRefusedError as error:
            results.append(str(error))

    threads = [threading.Thread(target=promote, args=pair) for pair in zip(digests, answers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    winners = [result for result in results if result in ("1", "2")]
    [loser] = [result for result in results if result not in winners]
    assert "the champion is generation 1" in str(loser) or "superseded" in str(loser)
    assert [made.version for made in champion.history(settings)] == winners
    assert Ledger(settings).verify().intact


def test_a_writer_waits_for_the_one_before(settings: Settings) -> None:
    """What a transaction has read cannot change before it has written: across machines, where no file lock reaches."""
    ledger = Ledger(settings)
    order: list[str] = []

    def second() -> None:
        with Ledger(settings)._engine.execution_options(writes=True).begin():
            order.append("second")

    with ledger._engine.execution_options(writes=True).begin():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_reading_sees_one_state_and_writes_nothing(settings: Settings) -> None:
    ledger = Ledger(settings)
    ledger.append(Entry("before"))
    count = text("SELECT count(*) FROM ledger_entries")
    with ledger.reading() as connection:
        before = connection.execute(count).scalar()
        Ledger(settings).append(Entry("meanwhile"))
        assert connection.execute(count).scalar() == before
    with ledger.reading() as connection, pytest.raises(DBAPIError, match="read-only transaction"):
        connection.execute(text("DELETE FROM approvals"))
