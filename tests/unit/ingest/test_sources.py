"""Files, landing folders and what is remembered."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evergreen.ingest.prepared as prepared
from evergreen.errors import SourceError, SourceNotReadyError
from evergreen.ingest.sources import (
    FileSource,
    LandingSource,
    Source,
    remember_source,
    remembered_source,
    resolve_source,
    workspace_name,
)
from evergreen.ingest.stage import stage_transactions
from evergreen.lake import Lake, publish_set
from evergreen.settings import Settings
from evergreen.settings.sample import SampleSettings
from tests.unit.ingest.conftest import FIRST, as_csv, days_of_lines, line

SECOND, THIRD = FIRST + timedelta(days=1), FIRST + timedelta(days=2)


def invoices(source: Source, start: date, end: date) -> list[str]:
    return [value for chunk in source.chunks(start, end) for value in chunk.lines["Invoice"].to_pylist()]


def with_ingest(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=changes)})


def test_a_file_is_read_once_and_its_days_are_found_again(
    settings: Settings, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("shop.csv.gz", days_of_lines(40, 5))  # two months
    source = resolve_source(settings, str(file))
    assert (source.first_day(), source.last_day()) == (FIRST, FIRST + timedelta(days=39))
    assert source.ready(source.last_day())
    assert not source.ready(source.last_day() + timedelta(days=1))

    def never(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(prepared, "open_table", never)
    monkeypatch.setattr(prepared, "content_sha256", never)
    again = resolve_source(settings, str(file))
    assert len(invoices(again, SECOND, SECOND)) == 5
    assert len(invoices(again, FIRST, FIRST + timedelta(days=39))) == 200
    assert again.fingerprint(FIRST, FIRST) == source.fingerprint(FIRST, SECOND)


def test_chunks_are_whole_days(settings: Settings, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "CHUNK_ROWS", 12)
    source = resolve_source(settings, str(write("shop.csv", days_of_lines(5, 5))))
    assert [chunk.lines.num_rows for chunk in source.chunks(FIRST, THIRD + timedelta(days=2))] == [10, 10, 5]


def test_a_changed_file_is_another_source_and_its_former_copy_goes(
    settings: Settings, write: Callable[..., Path]
) -> None:
    file = write("shop.csv", days_of_lines(2, 5))
    before = resolve_source(settings, str(file)).fingerprint(FIRST, FIRST)
    file.write_text(as_csv([*days_of_lines(2, 5), line(77, SECOND)]))
    os.utime(file, ns=(1, 1))
    after = resolve_source(settings, str(file))
    assert after.fingerprint(FIRST, FIRST) != before
    assert len(invoices(after, SECOND, SECOND)) == 6
    folders = [path.name for path in (settings.home_path / "sources").iterdir() if path.name != "files"]
    assert folders == [after.fingerprint(FIRST, FIRST)]


def test_a_moved_or_touched_file_with_the_same_content_stays_the_same(
    settings: Settings, write: Callable[..., Path], tmp_path: Path
) -> None:
    file = write("shop.csv", days_of_lines(2, 5))
    before = resolve_source(settings, str(file)).fingerprint(FIRST, FIRST)
    os.utime(file, ns=(1, 1))
    assert resolve_source(settings, str(file)).fingerprint(FIRST, FIRST) == before


@pytest.mark.fault
def test_a_killed_preparation_leaves_nothing_that_counts(
    settings: Settings, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("shop.csv", days_of_lines(2, 5))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_split", killed)
        with pytest.raises(KeyboardInterrupt):
            resolve_source(settings, str(file)).first_day()
    sources = settings.home_path / "sources"
    assert [path.name for path in sources.iterdir()] == ["files"]
    stale = sources / ".unfinished-of-a-killed-process"
    stale.mkdir()
    os.utime(stale, (1, 1))
    assert resolve_source(settings, str(file)).first_day() == FIRST
    assert not stale.exists()


def test_two_preparations_at_once_leave_one_copy(
    settings: Settings, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("shop.csv", days_of_lines(2, 5))
    whole = prepared._split

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(prepared, "_split", whole)
        resolve_source(settings, str(file)).first_day()
        return whole(*arguments)

    monkeypatch.setattr(prepared, "_split", overtaken)
    assert resolve_source(settings, str(file)).first_day() == FIRST
    assert list((settings.home_path / "sources").glob(".unfinished-*")) == []


def test_a_damaged_copy_is_not_believed(settings: Settings, write: Callable[..., Path]) -> None:
    source = resolve_source(settings, str(write("shop.csv", days_of_lines(2, 5))))
    folder = settings.home_path / "sources" / source.fingerprint(FIRST, FIRST)
    index = json.loads((folder / "index.json").read_text())
    index["days"][str(FIRST)] = 6
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match=r"holds 5 lines of 2011-08-01 to 2011-08-01, its index says 6"):
        invoices(resolve_source(settings, str(folder.parent.parent.parent / "shop.csv")), FIRST, FIRST)


@pytest.mark.parametrize(
    ("name", "times", "time_format"),
    [
        ("a.csv", ["31/08/2011 17:05", "01/09/2011 9:00"], "day_first"),
        ("a.csv", ["8/31/11 17:05", "9/1/11 9:00"], "month_first"),
        ("a.csv", ["8/31/2011 17:05", "9/1/2011 9:00"], "month_first"),
        ("a.csv", ["01/09/2011 9:00", "02/09/2011 9:00"], "day_first"),  # could be both: as UCI's export writes it
        ("a.csv", ["9/1/11 9:00", "9/2/11 9:00"], "month_first"),
        ("a.csv", ["2011-08-31 17:05:00"], "iso"),
    ],
)
def test_a_file_that_writes_its_times_one_way_is_understood(
    settings: Settings, write: Callable[..., Path], name: str, times: list[str], time_format: str
) -> None:
    source = resolve_source(settings, str(write(name, [line(n, InvoiceDate=t) for n, t in enumerate(times)])))
    [chunk] = list(source.chunks(source.first_day(), source.last_day()))
    assert chunk.layout.time_format == time_format
    assert source.first_day().year == 2011
    assert source.first_day().month in (8, 9)


def test_the_time_format_can_be_set(settings: Settings, write: Callable[..., Path]) -> None:
    file = write("a.csv", [line(InvoiceDate="01/09/2011 9:00")])
    chosen = with_ingest(settings, time_format="month_first")
    assert resolve_source(chosen, str(file)).first_day() == date(2011, 1, 9)
    assert resolve_source(settings, str(file)).first_day() == date(2011, 9, 1)


@pytest.fixture
def landing(tmp_path: Path) -> Callable[..., Path]:
    """Lands a drop: `landing(day, rows, suffix)` gives the folder."""

    def land(day: date, rows: list[dict[str, Any]], suffix: str = ".csv") -> Path:
        folder = tmp_path / "landing"
        folder.mkdir(exist_ok=True)
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{day}.parquet")
        elif suffix == "/":
            (folder / f"event_date={day}").mkdir()
            for number, row in enumerate(rows):
                (folder / f"event_date={day}" / f"part-{number}.csv").write_text(as_csv([row]))
        else:
            (folder / f"{day}{suffix}").write_text(as_csv(rows, list(line())))
        return folder

    return land


NULLS = dict.fromkeys(line(), "")


def load(settings: Settings, start: date, end: date, source: Path) -> dict[str, Any]:
    staged = stage_transactions(settings, start, end, source=str(source), run_id="run")
    return publish_set(Lake(settings.lake_path), staged) | {"counts": dict(staged.counts)}


def test_drops_of_every_kind_land_day_by_day(settings: Settings, landing: Callable[..., Path]) -> None:
    folder = landing(FIRST, [line(1), line(2)])
    landing(THIRD, [line(3, THIRD)], ".parquet")
    landing(FIRST + timedelta(days=3), [line(4, FIRST + timedelta(days=3)), line(5, FIRST + timedelta(days=3))], "/")
    (folder / "2011-08-09.csv.part").write_text("still being written")
    source = resolve_source(settings, str(folder))
    assert isinstance(source, LandingSource)
    assert (source.name, source.first_day(), source.last_day()) == ("landing", FIRST, FIRST + timedelta(days=3))
    assert source.ready(SECOND)  # no drop, and a later one has landed: a day without lines
    assert not source.ready(date(2011, 8, 9))
    assert load(settings, FIRST, source.last_day(), folder)["counts"]["rows_out"] == 5
    assert {f.day: f.rows for f in Lake(settings.lake_path).table("transactions").files} == {
        FIRST: 2, SECOND: 0, THIRD: 1, FIRST + timedelta(days=3): 2,
    }  # fmt: skip


def test_a_corrected_drop_replaces_its_day_alone(settings: Settings, landing: Callable[..., Path]) -> None:
    folder = landing(FIRST, [line(1)])
    landing(SECOND, [line(2, SECOND)])
    load(settings, FIRST, SECOND, folder)
    before = resolve_source(settings, str(folder)).fingerprint(FIRST, SECOND)
    landing(FIRST, [line(1), line(9)])
    assert resolve_source(settings, str(folder)).fingerprint(FIRST, SECOND) != before
    result = load(settings, FIRST, SECOND, folder)
    assert (result["changed_days"], result["earliest_changed"], result["rows"]) == (1, "2011-08-01", 2)
    late = landing(FIRST - timedelta(days=1), [line(1, FIRST - timedelta(days=1))])
    assert load(settings, FIRST - timedelta(days=1), SECOND, late)["changed_days"] == 1


def test_the_drop_that_landed_last_counts(settings: Settings, landing: Callable[..., Path]) -> None:
    folder = landing(FIRST, [line(1)], ".parquet")
    landing(FIRST, [line(2)], ".csv")
    os.utime(folder / f"{FIRST}.parquet", (1, 1))
    assert invoices(resolve_source(settings, str(folder)), FIRST, FIRST) == ["489436"]
    os.utime(folder / f"{FIRST}.csv", (0, 0))
    assert invoices(resolve_source(settings, str(folder)), FIRST, FIRST) == ["489435"]


def test_lines_of_other_days_in_a_drop_are_quarantined(settings: Settings, landing: Callable[..., Path]) -> None:
    folder = landing(SECOND, [line(1, SECOND), line(2, FIRST), line(3, THIRD), line(4, InvoiceDate="")])
    load(settings, SECOND, SECOND, folder)
    found = Lake(settings.lake_path).table("quarantine").read()
    assert found["rule"].to_pylist() == ["other_day", "future_time", "missing_time"]
    assert set(found["event_date"].to_pylist()) == {SECOND}


def test_a_drop_tells_by_its_day_how_its_dates_are_meant(settings: Settings, landing: Callable[..., Path]) -> None:
    second = date(2010, 2, 1)
    assert (
        load(settings, second, second, landing(second, [line(InvoiceDate="01/02/2010 9:00")]))["counts"]["rows_out"]
        == 1
    )
    also = date(2010, 3, 4)
    assert load(settings, also, also, landing(also, [line(InvoiceDate="3/4/2010 9:00")]))["counts"]["rows_out"] == 1


def test_an_empty_drop_is_an_empty_day_and_an_empty_file_is_none(
    settings: Settings, landing: Callable[..., Path]
) -> None:
    folder = landing(FIRST, [])
    assert load(settings, FIRST, FIRST, folder)["counts"]["rows_in"] == 0
    assert Lake(settings.lake_path).table("transactions").days() == [FIRST]
    (folder / f"{SECOND}.csv").write_text("")
    with pytest.raises(SourceError, match="is empty"):
        load(settings, SECOND, SECOND, folder)


def test_drops_with_other_headers_are_read_apart(settings: Settings, landing: Callable[..., Path]) -> None:
    folder = landing(FIRST, [line(1)])
    renamed = {"Price": "UnitPrice", "Invoice": "InvoiceNo"}
    rows = [{renamed.get(name, name): value for name, value in line(2, SECOND).items()} | {"Till": "7"}]
    (folder / f"{SECOND}.csv").write_text(as_csv(rows))
    load(settings, FIRST, SECOND, folder)
    assert Lake(settings.lake_path).table("transactions").read()["extra"].to_pylist() == [None, '{"Till":"7"}']


def test_drops_that_cannot_be_used(settings: Settings, landing: Callable[..., Path], tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    source = resolve_source(settings, str(empty))
    assert not source.ready(FIRST)
    with pytest.raises(SourceNotReadyError, match="holds no drops"):
        source.last_day()
    folder = landing(FIRST, [line(1), {"a": 1}], "/")
    with pytest.raises(SourceError, match=r"part-1\.csv: columns a differ from Invoice"):
        load(settings, FIRST, FIRST, folder)
    (folder / f"event_date={SECOND}").mkdir()
    with pytest.raises(SourceError, match=r"holds no \.csv"):
        load(settings, SECOND, SECOND, folder)
    (folder / "2011-02-30.csv").write_text("")
    with pytest.raises(SourceError, match=r"2011-02-30\.csv names no day"):
        resolve_source(settings, str(folder)).last_day()
    (folder / "2011-02-30.csv").unlink()
    (folder / f"{THIRD}.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match=rf"{THIRD}\.csv cannot be read \(No such file or directory\)"):
        resolve_source(settings, str(folder)).last_day()


def test_a_drop_of_a_day_to_come_does_not_make_the_days_before_it_landed(
    settings: Settings, landing: Callable[..., Path]
) -> None:
    folder = landing(FIRST, [line(1)])
    landing(date(2199, 1, 1), [line(2)])
    with pytest.raises(SourceError, match=r"2199-01-01\.csv is of a day in the future; expected one up to"):
        resolve_source(settings, str(folder)).ready(SECOND)


@pytest.mark.parametrize("nothing", [NULLS, NULLS | {"InvoiceDate": str(FIRST)}], ids=["at all", "but the day"])
def test_a_drop_of_nulls_is_refused_and_is_no_empty_day(
    settings: Settings, landing: Callable[..., Path], nothing: dict[str, str]
) -> None:
    folder = landing(FIRST, [nothing] * 300)
    with pytest.raises(SourceError, match=r"300 of 300 lines were rejected.*by rule missing_"):
        load(settings, FIRST, FIRST, folder)
    assert Lake(settings.lake_path).versions() == {}


def test_the_order_in_which_a_source_is_chosen(settings: Settings, write: Callable[..., Path]) -> None:
    named, set_, remembered = (write(f"{name}.csv", [line()]) for name in ("named", "set", "remembered"))
    assert remember_source(settings, str(remembered)).name == "remembered.csv"
    assert resolve_source(settings).name == "remembered.csv"
    chosen = with_ingest(settings, source=str(set_))
    assert resolve_source(chosen).name == "set.csv"
    assert resolve_source(chosen, str(named)).name == "named.csv"
    assert stat.S_IMODE((settings.home_path / "source.json").stat().st_mode) == 0o600

    small = settings.model_copy(update={"sample": SampleSettings(lines=10_000, day=date(2024, 3, 31), extra_days=3)})
    assert remember_source(small, "").name == "sample"
    assert remembered_source(small) == ""
    sample = resolve_source(small)
    assert isinstance(sample, FileSource)
    assert (sample.name, sample.last_day()) == ("sample", date(2024, 4, 3))


def test_a_source_that_is_not_there_is_not_remembered(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist; give a file, a landing folder or a database URL"):
        remember_source(settings, str(tmp_path / "none.csv"))
    assert remembered_source(settings) == ""


def test_a_remembered_relative_path_holds_elsewhere(
    settings: Settings, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("shop.csv", [line()])
    monkeypatch.chdir(tmp_path)
    remember_source(settings, "shop.csv")
    monkeypatch.chdir("/")
    assert resolve_source(settings).first_day() == FIRST


def test_workspaces_have_stable_names_of_their_own() -> None:
    assert workspace_name("") == "sample"
    assert workspace_name("/data/shop.csv") != workspace_name("/other/shop.csv")
    assert workspace_name("/data/shop.csv").startswith("shop-")
    assert "secret" not in workspace_name("postgresql://me:secret@host/shop")
