"""A table or query is read day by day where it is."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import evergreen.ingest.database as database
from evergreen.errors import SourceError, SourceNotReadyError
from evergreen.ingest.database import DatabaseSource
from evergreen.ingest.sources import resolve_source
from evergreen.ingest.stage import stage_transactions
from evergreen.lake import Lake, publish_set
from evergreen.lake.staging import days_between
from evergreen.settings import Settings
from tests.unit.ingest.conftest import FIRST, days_of_lines, line

LAST = FIRST + timedelta(days=9)


def in_database(
    settings: Settings, folder: Path, rows: list[dict[str, Any]], table: str = "lines"
) -> tuple[Settings, str]:
    url = f"sqlite:///{folder / 'shop.db'}"
    columns = [sa.Column(name, sa.Float if name == "Price" else sa.Text) for name in line()]
    made = sa.Table("lines", sa.MetaData(), *columns)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        made.drop(connection, checkfirst=True)
        made.create(connection)
        if rows:
            connection.execute(made.insert(), [{name: value or None for name, value in row.items()} for row in rows])
    engine.dispose()
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"table": table})}), url


def load(settings: Settings, start: date, end: date, url: str) -> dict[str, Any]:
    staged = stage_transactions(settings, start, end, source=url, run_id="run")
    return publish_set(Lake(settings.lake_path), staged) | {"counts": dict(staged.counts)}


@pytest.mark.parametrize("table", ["lines", "main.lines", 'SELECT * FROM "lines" WHERE "Quantity" <> 0;'])
def test_a_table_or_query_is_loaded_by_day(settings: Settings, tmp_path: Path, table: str) -> None:
    rows = [*days_of_lines(10, 6), line(InvoiceDate=""), line(InvoiceDate="2150-01-01 10:00"), line(2, Price="-1")]
    bulk, url = in_database(settings, tmp_path, rows, table)
    source = resolve_source(bulk, url)
    assert isinstance(source, DatabaseSource)
    assert (source.first_day(), source.last_day()) == (FIRST, LAST)
    assert source.ready(LAST)
    assert not source.ready(LAST + timedelta(days=1))
    counts = load(bulk, FIRST, LAST, url)["counts"]
    assert (counts["rows_in"], counts["rows_out"], counts["quarantined"]) == (63, 60, 3)

    daily = bulk.model_copy(update={"home": tmp_path / "daily"})
    for day in days_between(FIRST, LAST):
        load(daily, day, day, url)
    for name in ("transactions", "quarantine"):
        assert Lake(daily.lake_path).table(name).digests == Lake(bulk.lake_path).table(name).digests
    rejected = Lake(bulk.lake_path).table("quarantine").read()
    assert sorted(rejected["rule"].to_pylist()) == ["future_time", "missing_time", "negative_price"]
    assert set(rejected["event_date"].to_pylist()) == {FIRST}


def test_the_order_of_a_table_does_not_matter_and_a_change_does(settings: Settings, tmp_path: Path) -> None:
    rows = [*days_of_lines(3, 6), line(1, Price="-1"), line(2, Price="-2")]
    ready, url = in_database(settings, tmp_path, rows)
    end = FIRST + timedelta(days=2)
    load(ready, FIRST, end, url)
    before = DatabaseSource(url, ready).fingerprint(FIRST, end)
    in_database(settings, tmp_path, rows[::-1])
    assert load(ready, FIRST, end, url)["unchanged"]
    assert DatabaseSource(url, ready).fingerprint(FIRST, end) == before
    in_database(settings, tmp_path, [*rows, line(99, end)])
    result = load(ready, FIRST, end, url)
    assert (result["changed_days"], result["earliest_changed"]) == (1, str(end))


def test_values_of_any_type_become_text() -> None:
    zoned = datetime.fromisoformat("2011-08-31T17:05:00+05:30")
    values = [None, "a", 1.0, 6.95, float("nan"), 3, zoned, datetime(2011, 8, 31, 17, 5)]
    assert [database._text(value) for value in values] == [
        None, "a", "1", "6.95", None, "3", "2011-08-31 11:35:00", "2011-08-31 17:05:00",
    ]  # fmt: skip


def test_real_timestamps_are_compared_as_such(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps times as text; other databases give datetimes, and get datetimes to compare with."""
    ready, url = in_database(settings, tmp_path, days_of_lines(2, 2))
    source = DatabaseSource(url, ready)
    monkeypatch.setattr(DatabaseSource, "_times_are_text", False)
    parameters = source._between(FIRST, FIRST).compile().params
    assert set(parameters.values()) == {datetime(2011, 8, 1), datetime(2011, 8, 2)}


@pytest.mark.parametrize(
    ("rows", "table", "error", "message"),
    [
        ([line()], "", SourceError, "a database needs settings.ingest.table"),
        ([line()], "nowhere", SourceError, r"nowhere cannot be read \(.*no such table"),
        ([line()], "SELECT Invoice FROM lines", SourceError, "query: no column for product_id"),
        (
            [line(InvoiceDate="31/08/2011")],
            "lines",
            SourceError,
            "column InvoiceDate holds '31/08/2011'; expected timestamps",
        ),
        ([], "lines", SourceNotReadyError, "holds no line with a time"),
        ([line(InvoiceDate="2150-01-01")], "lines", SourceNotReadyError, "holds no line up to today"),
    ],
)
def test_what_cannot_be_used_is_refused(
    settings: Settings, tmp_path: Path, rows: list[dict[str, Any]], table: str, error: type[Exception], message: str
) -> None:
    ready, url = in_database(settings, tmp_path, rows, table)
    with pytest.raises(error, match=message) as caught:
        DatabaseSource(url, ready).last_day()
    assert "\n" not in str(caught.value)


def test_a_database_file_that_is_not_there_is_refused_and_not_made(settings: Settings, tmp_path: Path) -> None:
    ready, _ = in_database(settings, tmp_path, [])
    with pytest.raises(SourceError, match=r"source sqlite:.*none\.db does not exist: there is no file"):
        DatabaseSource(f"sqlite:///{tmp_path / 'none.db'}", ready).last_day()
    assert not (tmp_path / "none.db").exists()


def test_a_database_without_lines_is_not_ready(settings: Settings, tmp_path: Path) -> None:
    ready, url = in_database(settings, tmp_path, [])
    assert not DatabaseSource(url, ready).ready(FIRST)


@pytest.mark.parametrize("url", ["nonsense://host/db", "postgresql+nothing://me:secret@host/db"])
def test_a_url_of_no_known_database(settings: Settings, tmp_path: Path, url: str) -> None:
    ready, _ = in_database(settings, tmp_path, [])
    with pytest.raises(SourceError, match="database URL cannot be used") as caught:
        DatabaseSource(url, ready).last_day()
    assert "secret" not in str(caught.value)
