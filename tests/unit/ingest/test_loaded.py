"""Which days a load reads: new ones alone, and all of them after the source changed behind its end."""

from __future__ import annotations

from datetime import date

import pytest

from evergreen.ingest.loaded import first_day_to_load, note_loaded
from evergreen.ingest.sources import resolve_source
from evergreen.ingest.stage import stage_transactions
from evergreen.lake import Lake
from evergreen.lake.staged_set import publish_set

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
DAYS = [date(2011, 8, day) for day in (29, 30, 31)]


def drop(folder, day: date, quantity: int = 1) -> None:
    (folder / f"{day}.csv").write_text(f"{HEADER}1,A,TEA CUP,{quantity},{day} 10:00:00,1.5,7,France\n")


@pytest.fixture
def landing(tmp_path):
    folder = tmp_path / "landing"
    folder.mkdir()
    for day in DAYS[:2]:
        drop(folder, day)
    return folder


def load(settings, landing, day: date) -> date:
    source = resolve_source(settings, str(landing))
    start = first_day_to_load(settings, source, day)
    publish_set(Lake(settings.lake_path), stage_transactions(settings, start, day, source=str(landing), run_id="test"))
    note_loaded(settings, source, day)
    return start


def test_a_first_load_begins_at_the_beginning(settings, landing):
    assert load(settings, landing, DAYS[1]) == DAYS[0]


def test_the_same_day_again_reads_that_day(settings, landing):
    load(settings, landing, DAYS[1])
    assert load(settings, landing, DAYS[1]) == DAYS[1]


def test_a_new_day_reads_that_day_alone(settings, landing):
    load(settings, landing, DAYS[1])
    drop(landing, DAYS[2])
    assert load(settings, landing, DAYS[2]) == DAYS[2]


def test_after_a_correction_everything_is_read_again(settings, landing):
    load(settings, landing, DAYS[1])
    drop(landing, DAYS[0], quantity=5)
    assert load(settings, landing, DAYS[1]) == DAYS[0]
    assert Lake(settings.lake_path).table("transactions").read()["quantity"].to_pylist() == [5, 1]
