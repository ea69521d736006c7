"""A range and its days stage the same rows; what cannot be read leaves nothing behind."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from evergreen.errors import SourceError, SourceNotReadyError
from evergreen.ingest.stage import stage_transactions
from evergreen.lake import Lake, latest_release, publish_set
from evergreen.lake.staging import days_between
from evergreen.settings import Settings
from tests.unit.ingest.conftest import FIRST, as_csv, days_of_lines, line

SECOND, THIRD = FIRST + timedelta(days=1), FIRST + timedelta(days=2)


def load(settings: Settings, start: date, end: date, source: Path | str, run_id: str = "run") -> dict[str, Any]:
    staged = stage_transactions(settings, start, end, source=str(source), run_id=run_id)
    return publish_set(Lake(settings.lake_path), staged, run_id=run_id)


def content(settings: Settings) -> dict[str, dict[date, str]]:
    lake = Lake(settings.lake_path)
    return {name: dict(lake.table(name).digests) for name in ("transactions", "quarantine")}


def staged_leftovers(settings: Settings) -> list[Path]:
    return list(settings.lake_path.glob("*/staging/*"))


def test_days_are_staged_counted_and_published(settings: Settings, write: Callable[..., Path]) -> None:
    rows = days_of_lines(3, 10)
    rows = [row for row in rows if not row["InvoiceDate"].startswith(str(SECOND))]  # a day without lines is a day
    source = write("shop.csv", [*rows, rows[0], line(5, THIRD, Price="-3"), line(6, THIRD, **{"Customer ID": ""})])
    staged = stage_transactions(settings, FIRST, THIRD, source=str(source), run_id="run")
    assert staged.counts == {
        "rows_in": 23,
        "rows_out": 21,
        "quarantined": 1,
        "duplicates": 1,
        "without_customer": 1,
        "purchases": 20,
        "cancellations": 0,
        "returns": 0,
        "quarantined_negative_price": 1,
    }
    assert (staged.day, staged.name) == (THIRD, "transactions")
    lake = Lake(settings.lake_path)
    publish_set(lake, staged)
    assert {file.day: file.rows for file in lake.table("transactions").files} == {FIRST: 10, SECOND: 0, THIRD: 11}
    assert latest_release(lake, "transactions") is not None


def test_the_same_input_publishes_nothing_whatever_the_run(settings: Settings, write: Callable[..., Path]) -> None:
    source = write("shop.csv", [*days_of_lines(2, 10), line(1, Price="-1")])
    load(settings, FIRST, SECOND, source, "first")
    assert load(settings, FIRST, SECOND, source, "second")["unchanged"]
    assert load(settings, FIRST, FIRST, source, "third")["unchanged"]
    assert Lake(settings.lake_path).table("quarantine").read()["run_id"].to_pylist() == ["first"]


TIME = st.one_of(
    st.sampled_from(["", "never", "2011-02-30", "2150-01-01", "1970-01-01 10:00"]),
    st.builds(
        lambda day, minute: f"{FIRST + timedelta(days=day)} 10:{minute:02}:00", st.integers(0, 2), st.integers(0, 2)
    ),
)
LINE = st.builds(
    line,
    st.integers(0, 2),
    InvoiceDate=TIME,
    Price=st.sampled_from(["6.95", "6.95", "-1"]),
    Quantity=st.sampled_from(["1", "1", "x"]),
)


@given(st.lists(LINE | st.just("too,few"), min_size=1, max_size=25), st.sampled_from(["csv", "csv.gz"]))
@hypothesis_settings(max_examples=8)
def test_a_range_equals_its_days(rows: list[Any], suffix: str) -> None:
    """Whatever the order of the lines: duplicates, broken lines and lines without a readable time included."""
    # A good line somewhere: a source in which no time can be read is another test's.
    good = [line(9, FIRST), line(9, THIRD)]
    rows = [good[0], *rows, good[1]] if len(rows) % 2 else [*rows, *good]
    text = as_csv(good[:0], list(good[0])) + "".join(
        f"{row}\n" if isinstance(row, str) else as_csv([row]).split("\n", 1)[1] for row in rows
    )
    with TemporaryDirectory() as folder:
        source = Path(folder) / f"shop.{suffix}"
        source.write_bytes(gzip.compress(text.encode()) if suffix == "csv.gz" else text.encode())
        lakes = []
        for name in ("bulk", "daily", "two"):
            base = Settings(home=Path(folder) / name)
            lakes.append(
                base.model_copy(update={"ingest": base.ingest.model_copy(update={"max_quarantine_share": 1.0})})
            )
        bulk, daily, two = lakes
        whole = load(bulk, FIRST, THIRD, source, "bulk")
        for day in days_between(FIRST, THIRD):
            single = load(daily, day, day, source, f"run of {day}")
        load(two, SECOND, THIRD, source)
        load(two, FIRST, SECOND, source)
        assert content(bulk) == content(daily) == content(two)
        assert whole["digest"] == single["digest"]


def test_lines_without_a_time_belong_to_the_readable_line_before_them(
    settings: Settings, write: Callable[..., Path]
) -> None:
    broken = [line(number, InvoiceDate="?", Invoice=f"broken {number}") for number in range(4)]
    rows = [
        broken[0],
        line(1, SECOND),
        broken[1],
        line(1, FIRST),
        broken[2],
        line(2, THIRD, InvoiceDate="2150-01-01"),
        broken[3],
    ]
    load(settings, FIRST, SECOND, write("shop.csv", rows))
    lines = Lake(settings.lake_path).table("quarantine").read().to_pylist()
    assert [(row["event_date"], row["source_row"], row["rule"]) for row in lines] == [
        (FIRST, 5, "unreadable_time"),
        (FIRST, 6, "future_time"),
        (FIRST, 7, "unreadable_time"),
        (SECOND, 1, "unreadable_time"),
        (SECOND, 3, "unreadable_time"),
    ]


def test_too_many_rejected_lines_stop_the_run(settings: Settings, write: Callable[..., Path]) -> None:
    rows = [line(number) for number in range(94)]
    bad = [line(number, Price=f"-{number + 1}") for number in range(6)]
    message = (
        r"shop.csv: 6 of 100 lines were rejected, at most 5\.0% may be; 6 by rule negative_price "
        r"\(shop.csv, line 95: Price is -1\)"
    )
    with pytest.raises(SourceError, match=message):
        load(settings, FIRST, FIRST, write("shop.csv", [*rows, *bad]))
    assert staged_leftovers(settings) == []
    assert content(settings) == {"transactions": {}, "quarantine": {}}
    load(settings, FIRST, FIRST, write("shop.csv", [*rows, *bad[:5]]))  # the control: five of 99 may be


def test_a_few_rejected_lines_never_stop_a_small_day(settings: Settings, write: Callable[..., Path]) -> None:
    load(settings, FIRST, FIRST, write("shop.csv", [line(1), *(line(2, Price=f"-{n}") for n in (1, 2, 3, 4, 5))]))
    assert Lake(settings.lake_path).table("quarantine").rows == 5


NULLS = {name: "" for name in line()}


UNREADABLE: dict[str, tuple[Any, str]] = {
    "column missing": ([{k: v for k, v in line().items() if k != "Price"}], "no column for unit_price"),
    "wrong type of quantity": (
        [line(n, Quantity="many") for n in range(20)],
        "column Quantity holds no quantity: none of its 20 values",
    ),
    "wrong type of price": ([line(n, Price="cheap") for n in range(20)], "column Price holds no unit_price"),
    "wrong type of time": ([line(n, InvoiceDate="soon") for n in range(20)], "column InvoiceDate holds no event_time"),
    "no time": ([line(InvoiceDate="soon")], "no line of its 1 has a time between"),
    "no lines": (as_csv([], list(line())), "has a header and no lines"),
    "empty": (b"", "is empty"),
    "binary": (bytes(range(256)), "no text in a known encoding"),
    "nulls": ([line(1), *(NULLS | {"Invoice": str(n)} for n in range(20))], "20 of 21 lines were rejected"),
    "mixed times": (
        [*days_of_lines(1, 20), *(line(n, InvoiceDate=f"{n}/08/2011 10:00") for n in range(1, 20))],
        "19 of 39 lines were rejected.*mixed_time_formats",
    ),
    "day first and month first": (
        [line(n, InvoiceDate=t) for n, t in enumerate(["13/08/2011 1:00"] * 9 + ["08/13/2011 1:00"] * 9)],
        "no line of its 18 has a time",
    ),
}


@pytest.mark.parametrize(("rows", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused_and_nothing_is_left(
    settings: Settings, write: Callable[..., Path], rows: Any, message: str
) -> None:
    good = write("good.csv", days_of_lines(1, 20))
    load(settings, FIRST, FIRST, good)
    before = (content(settings), sorted(staged_leftovers(settings)))
    with pytest.raises(SourceError, match=message) as caught:
        load(settings, FIRST, FIRST, write("bad.csv", rows))
    assert "\n" not in str(caught.value)
    assert (content(settings), sorted(staged_leftovers(settings))) == before
    assert list((settings.home_path / "sources").glob(".*")) == []
    assert load(settings, FIRST, FIRST, good)["unchanged"]


@pytest.mark.parametrize(
    ("start", "end", "error", "message"),
    [
        (FIRST, date(2011, 8, 4), SourceNotReadyError, "shop.csv reaches to 2011-08-03, 2011-08-04 was asked for"),
        (date(2011, 7, 1), FIRST, SourceError, "shop.csv begins on 2011-08-01, 2011-07-01 was asked for"),
        (SECOND, FIRST, SourceError, "has no days"),
    ],
)
def test_days_that_the_source_does_not_have(
    settings: Settings, write: Callable[..., Path], start: date, end: date, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(settings, start, end, write("shop.csv", days_of_lines(3, 5)))
    assert staged_leftovers(settings) == []


@pytest.mark.fault
def test_a_full_disk_leaves_nothing(
    settings: Settings, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import evergreen.ingest.stage as stage

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    source = write("shop.csv", days_of_lines(3, 5))
    with monkeypatch.context() as patch:
        patch.setattr(stage, "stage_days", full)
        with pytest.raises(OSError, match="No space"):
            load(settings, FIRST, THIRD, source)
    assert staged_leftovers(settings) == []
    assert not load(settings, FIRST, THIRD, source)["unchanged"]
