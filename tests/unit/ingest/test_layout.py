"""Headers, times and numbers are read as people mean them, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.errors import SourceError
from evergreen.ingest.layout import ALIASES, TimeFormat, map_columns, number_sql, text, time_sql, whole_number_sql
from evergreen.settings.ingest import CANONICAL
from tests.unit.ingest.conftest import HEADER

CONNECTION = duckdb.connect()
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2068, 12, 31)).map(lambda t: t.replace(second=0, microsecond=0))


def read(sql: str, value: str | None) -> Any:
    [(found,)] = CONNECTION.execute(f"SELECT {sql} FROM (SELECT ? AS v)", [value]).fetchall()
    return found


def test_the_contract_names_its_columns_once() -> None:
    assert tuple(ALIASES) == CANONICAL


@given(
    st.permutations(HEADER), st.sampled_from([str.upper, str.lower, lambda h: h.replace(" ", "_"), lambda h: f" {h} "])
)
def test_headers_are_found_in_any_order_case_and_spacing(header: list[str], change: Any) -> None:
    layout = map_columns("file", [change(name) for name in header], {})
    assert layout.mapping["unit_price"] == change("Price")
    assert layout.mapping["customer_id"] == change("Customer ID")
    assert layout.extras == ()


def test_the_other_spelling_of_the_headers_and_unknown_columns() -> None:
    header = [
        "InvoiceNo",
        "StockCode",
        "Description",
        "Quantity",
        "InvoiceDate",
        "UnitPrice",
        "CustomerID",
        "Country",
        "Till",
    ]
    layout = map_columns("file", header, {})
    assert [layout.mapping[name] for name in CANONICAL] == header[:-1]
    assert layout.extras == ("Till",)


def test_a_mapping_from_settings_wins_and_may_declare_a_column_absent() -> None:
    header = ["order", "sku", "amount", "at", "each", "who"]
    mapping = {
        "invoice_id": "order", "product_id": "sku", "quantity": "amount", "event_time": "at", "unit_price": "each",
        "customer_id": "who", "description": "", "country": "",
    }  # fmt: skip
    layout = map_columns("table", header, mapping)
    assert layout.mapping["product_id"] == "sku"
    assert layout.mapping["country"] is None


@pytest.mark.parametrize(
    ("header", "mapping", "message"),
    [
        (
            [h for h in HEADER if h != "Price"],
            {},
            r"no column for unit_price \(Price or UnitPrice\); its columns are Inv",
        ),
        ([*HEADER, "UnitPrice"], {}, "columns Price, UnitPrice all mean unit_price; expected one"),
        (list(HEADER), {"quantity": "Units"}, r"no column for quantity \(Units\)"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_by_name(
    header: list[str], mapping: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        map_columns("file", header, mapping)


@given(TIMES)
@pytest.mark.parametrize(
    ("time_format", "pattern"),
    [
        (TimeFormat.ISO, "%Y-%m-%d %H:%M:%S"),
        (TimeFormat.ISO, "%Y-%m-%dT%H:%M"),
        (TimeFormat.ISO, "%Y-%m-%dT%H:%M:%S.%fZ"),
        (TimeFormat.DAY_FIRST, "%d/%m/%Y %H:%M"),
        (TimeFormat.DAY_FIRST, "%d.%m.%y %H:%M:%S"),
        (TimeFormat.MONTH_FIRST, "%m/%d/%y %H:%M"),
        (TimeFormat.MONTH_FIRST, "%m/%d/%Y %H:%M"),
        (TimeFormat.DAY_FIRST, "%Y-%m-%d %H:%M:%S"),
    ],
)
def test_a_time_is_read_as_it_was_written(time_format: TimeFormat, pattern: str, moment: datetime) -> None:
    assert read(time_sql("v", time_format), moment.strftime(pattern)) == moment


@given(TIMES, st.integers(-12 * 60, 14 * 60))
def test_an_offset_is_turned_into_utc(moment: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    written = moment.replace(tzinfo=zone).isoformat()
    assert read(time_sql("v", TimeFormat.ISO), written) == moment.replace(tzinfo=zone).astimezone(UTC).replace(
        tzinfo=None
    )


@pytest.mark.parametrize(
    "value",
    ["", "never", "2011-02-30", "2011-08-31 25:00", "31/08/2011 17:05", "20110831", "epoch", "infinity", "40786.7",
     "2011-08", "2011-08-31 10:00 +0530"],
)  # fmt: skip
@pytest.mark.parametrize("time_format", [TimeFormat.ISO, TimeFormat.MIXED])
def test_what_is_no_iso_time_is_not_read(value: str, time_format: TimeFormat) -> None:
    assert read(time_sql("v", time_format), value) is None


@given(st.text(max_size=25))
def test_no_text_breaks_the_parsers(value: str) -> None:
    times = [time_sql("v", time_format) for time_format in TimeFormat]
    read(f"row({', '.join([*times, whole_number_sql('v'), number_sql('v'), text('v')])})", value)


@given(st.integers(-(2**62), 2**62))
def test_whole_numbers(value: int) -> None:
    assert read(whole_number_sql("v"), str(value)) == value
    assert read(whole_number_sql("v"), f"{value}.0") == pytest.approx(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers(value: float) -> None:
    assert read(number_sql("v"), repr(value)) == value


@pytest.mark.parametrize("value", ["1.5", "0x10", "1_000", "1,000", "ten", "1e3", "nan", "--1"])
def test_what_is_no_whole_number(value: str) -> None:
    assert read(whole_number_sql("v"), value) is None


@pytest.mark.parametrize("value", ["nan", "inf", "1_000", "6,95", "£6.95", "1e999", "."])
def test_what_is_no_price(value: str) -> None:
    assert read(number_sql("v"), value) is None


@pytest.mark.parametrize(("value", "found"), [(" a b\t", "a b"), (" ", None), ("", None), ("\u00a00\u00a0", "0")])
def test_blanks_are_nothing(value: str, found: str | None) -> None:
    assert read(text("v"), value) == found
