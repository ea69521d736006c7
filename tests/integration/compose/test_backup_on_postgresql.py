"""A ledger on a real PostgreSQL, backed up and restored without a program of its own."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from evergreen.backup.check import verify
from evergreen.backup.make import make_backup
from evergreen.backup.places import newest_to_restore
from evergreen.backup.restore import drill, restore
from evergreen.errors import BackupError
from evergreen.promotion import champion, pins
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import Settings, load_settings
from tests.homes import fill_home, promote, seen
from tests.integration.compose.test_ledger_on_postgresql import PASSWORD, server, settings
from tests.integration.conftest import filled_shop
from tests.shop import Shop

__all__ = ["filled_shop", "server", "settings"]  # fixtures
pytestmark = pytest.mark.docker


@pytest.fixture
def whole(settings: Settings, filled_shop: Shop, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A whole home whose ledger is on the server."""
    monkeypatch.setattr(pins, "registered_tables", lambda _: [])
    shutil.copytree(filled_shop.settings.home_path, home)
    fill_home(Shop(settings, filled_shop.purchases, filled_shop.day))
    return settings


@pytest.fixture
def elsewhere(server: str, whole: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same home with an empty database."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    with create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    monkeypatch.setenv("EVERGREEN__PROMOTION__LEDGER_URL", f"{server}/{name}")
    return load_settings("local")


def test_home_and_database_are_lost_and_come_back(whole: Settings, elsewhere: Settings, home: Path) -> None:
    before = seen(whole)
    made = make_backup(whole)
    shutil.rmtree(home)
    restore(elsewhere, newest_to_restore(elsewhere))
    assert seen(elsewhere) == before
    assert made.manifest.ledger["head"] in {sealed.hash for sealed in Ledger(elsewhere).entries()}
    assert not (home / "ledger" / "ledger.db").exists()
    with (
        create_engine(elsewhere.promotion.ledger_url).begin() as connection,
        pytest.raises(DBAPIError, match="append-only"),
    ):
        connection.execute(text("DELETE FROM ledger_entries"))
    promote(elsewhere, "2", generation=1)
    assert Ledger(elsewhere).verify().intact


def test_the_password_is_nowhere(whole: Settings) -> None:
    folder = make_backup(whole).folder
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD in whole.promotion.ledger_url  # control: it was used


def test_a_drill_needs_no_second_database(whole: Settings) -> None:
    make_backup(whole)
    before = len(Ledger(whole).entries())
    assert "restored ledger" in drill(whole).steps.seconds
    assert len(Ledger(whole).entries()) == before + 1  # the drill's own


def test_another_ledger_is_refused_or_moved_aside(whole: Settings) -> None:
    made = make_backup(whole)
    verify(whole, made.folder)
    promote(whole, "2", generation=1)
    with pytest.raises(BackupError, match="is not empty"):
        restore(whole, made.folder)
    done = restore(whole, made.folder, replace=True)
    current = champion.current(whole)
    assert current is not None
    assert current.version == "1"
    assert done.aside is not None
    schema = done.aside.name.replace("-", "_").lower()
    with create_engine(whole.promotion.ledger_url).connect() as connection:
        kept = connection.execute(text(f'SELECT version FROM "{schema}".champions ORDER BY generation')).scalars().all()
    assert kept == ["1", "2"]
    Ledger(whole).append(Entry("after"))
    assert Ledger(whole).verify().intact


def test_an_empty_home_with_a_ledger_in_the_database_is_refused(whole: Settings, home: Path) -> None:
    folder = make_backup(whole).folder
    shutil.rmtree(home)
    with pytest.raises(BackupError, match=r"the ledger's database holds \d+ entries: expected an empty one"):
        restore(whole, folder)
