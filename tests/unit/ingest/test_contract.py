"""Every line is accepted, quarantined by a named rule, or an exact duplicate; flags and amounts are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.errors import DataQualityError
from evergreen.ingest.contract import RULES, Judged, balance, judge
from evergreen.ingest.layout import TimeFormat, map_columns
from evergreen.ingest.lines import DAY, MALFORMED, ROW, SOURCE
from evergreen.lake.schemas import QUARANTINE, TRANSACTIONS
from evergreen.settings.ingest import IngestSettings
from tests.unit.ingest.conftest import FIRST, line


def judged(
    rows: Sequence[dict[str, Any]],
    days: Sequence[date] | None = None,
    time_format: TimeFormat = TimeFormat.ISO,
    contract: IngestSettings | None = None,
) -> Judged:
    columns = [name for name in rows[0] if name != MALFORMED]
    layout = map_columns("source", columns, {})
    layout = type(layout)(layout.mapping, layout.extras, time_format, layout.columns)
    table = pa.table(
        {
            ROW: pa.array(range(1, len(rows) + 1), pa.int64()),
            MALFORMED: pa.array([row.get(MALFORMED) for row in rows], pa.string()),
            **{name: pa.array([row.get(name) for row in rows], pa.string()) for name in columns},
            SOURCE: pa.array(["source"] * len(rows)),
            DAY: pa.array(days or [FIRST] * len(rows), pa.date32()),
        }
    )
    return judge(table, layout, contract or IngestSettings(), run_id="run")


def accepted(row: dict[str, Any], **limits: Any) -> dict[str, Any]:
    result = judged([row], contract=IngestSettings(**limits))
    assert result.accepted.schema == TRANSACTIONS.schema
    [found] = result.accepted.to_pylist()
    return dict(found)


def test_a_good_line() -> None:
    assert accepted(line(StockCode=" 79323p ", Description=" PINK LIGHTS ")) == {
        "invoice_id": "489435",
        "product_id": "79323P",
        "description": "PINK LIGHTS",
        "quantity": 12,
        "event_time": datetime(2011, 8, 1, 9, 1, tzinfo=UTC),
        "unit_price": 6.95,
        "amount_minor": 8340,
        "customer_id": "13085",
        "country": "United Kingdom",
        "is_cancellation": False,
        "is_return": False,
        "is_product": True,
        "is_purchase": True,
        "extra": None,
        "event_date": FIRST,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Invoice": "C489435", "Quantity": "-12"}, {"is_cancellation": True, "is_return": True, "is_purchase": False}),
        ({"Invoice": "c489435"}, {"is_cancellation": True, "is_purchase": False}),
        ({"Quantity": "-1"}, {"is_return": True, "is_purchase": False, "amount_minor": -695}),
        ({"Quantity": "0"}, {"is_return": False, "is_purchase": False, "amount_minor": 0}),
        ({"Price": "0"}, {"is_purchase": False, "unit_price": 0.0}),
        ({"StockCode": "post"}, {"is_product": False, "is_purchase": False, "product_id": "POST"}),
        ({"StockCode": "gift_0001_20"}, {"is_product": False, "is_purchase": False}),
        ({"StockCode": "Bank Charges"}, {"is_product": False}),
        ({"StockCode": "POSTER"}, {"is_product": True, "is_purchase": True}),
        ({"Customer ID": ""}, {"customer_id": None, "is_purchase": False, "is_product": True}),
        ({"Customer ID": None}, {"customer_id": None, "is_purchase": False}),
        ({"Customer ID": "nan"}, {"customer_id": None, "is_purchase": False}),
        ({"Customer ID": "13085.0"}, {"customer_id": "13085", "is_purchase": True}),
        ({"Customer ID": "K-13.50"}, {"customer_id": "K-13.50"}),
        ({"Description": " "}, {"description": None, "is_purchase": True}),
        ({"Price": "-0.0"}, {"unit_price": 0.0, "amount_minor": 0}),
    ],
)
def test_flags_and_identifiers(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = accepted(line(**changes))
    assert {name: found[name] for name in expected} == expected


def test_the_list_of_non_products_comes_from_settings_without_case() -> None:
    assert not accepted(line(StockCode="85048"), non_products=("85048",))["is_product"]
    assert accepted(line(StockCode="POST"), non_products=("x",))["is_purchase"]
    assert not accepted(line(StockCode="X"), non_products=("x",))["is_purchase"]


@given(st.lists(st.tuples(st.integers(-20_000, 20_000), st.integers(0, 10**9)), min_size=20, max_size=60))
@settings(max_examples=20)
def test_amounts_are_exact_and_round_half_to_even(pairs: list[tuple[int, int]]) -> None:
    prices = [Decimal(ten_thousandths) / 10_000 for _, ten_thousandths in pairs]
    rows = [
        line(Invoice=str(index), Quantity=str(quantity), Price=str(price))
        for index, ((quantity, _), price) in enumerate(zip(pairs, prices, strict=True))
    ]
    found = {int(row["invoice_id"]): row for row in judged(rows).accepted.to_pylist()}
    for index, ((quantity, _), price) in enumerate(zip(pairs, prices, strict=True)):
        assert found[index]["amount_minor"] == int((quantity * price * 100).to_integral_value(ROUND_HALF_EVEN))
        assert found[index]["unit_price"] == float(price)


def test_columns_that_the_contract_does_not_know_are_kept_as_json() -> None:
    found = accepted(line() | {"Till": "3", "is_purchase": "their own", "Note": None})
    assert json.loads(found["extra"]) == {"Till": "3", "is_purchase": "their own", "Note": None}
    assert found["is_purchase"] is True


REJECTED = [
    ({"InvoiceDate": ""}, "missing_time", "InvoiceDate is empty"),
    ({"InvoiceDate": "never"}, "unreadable_time", "InvoiceDate is never"),
    ({"InvoiceDate": "2011-02-30 10:00:00"}, "unreadable_time", "InvoiceDate is 2011-02-30 10:00:00"),
    ({"InvoiceDate": "01/08/2011 10:00"}, "unreadable_time", "InvoiceDate is 01/08/2011 10:00"),
    ({"InvoiceDate": "1900-01-01"}, "absurd_time", "InvoiceDate is 1900-01-01"),
    ({"InvoiceDate": "2011-08-02"}, "future_time", "InvoiceDate is 2011-08-02"),
    ({"InvoiceDate": "2011-07-31"}, "other_day", "InvoiceDate is 2011-07-31"),
    ({"Invoice": " "}, "missing_invoice", "Invoice is empty"),
    ({"StockCode": None}, "missing_product", "StockCode is empty"),
    ({"Quantity": ""}, "missing_quantity", "Quantity is empty"),
    ({"Quantity": "1.5"}, "unreadable_quantity", "Quantity is 1.5"),
    ({"Quantity": "a dozen"}, "unreadable_quantity", "Quantity is a dozen"),
    ({"Quantity": "-1000001"}, "absurd_quantity", "Quantity is -1000001"),
    ({"Quantity": str(-(2**63))}, "absurd_quantity", f"Quantity is {-(2**63)}"),
    ({"Price": None}, "missing_price", "Price is empty"),
    ({"Price": "free"}, "unreadable_price", "Price is free"),
    ({"Price": "nan"}, "unreadable_price", "Price is nan"),
    ({"Price": "-11062.06"}, "negative_price", "Price is -11062.06"),
    ({"Price": "100000.01"}, "absurd_price", "Price is 100000.01"),
    ({MALFORMED: "1,2,3"}, "wrong_field_count", "expected 8 fields: 1,2,3"),
]


@pytest.mark.parametrize(("changes", "rule", "detail"), REJECTED)
def test_a_broken_line_is_quarantined_whole_by_its_rule(changes: dict[str, Any], rule: str, detail: str) -> None:
    broken = line(2, **changes)
    result = judged([line(1), broken])
    assert result.accepted.num_rows == 1
    assert result.quarantined.schema == QUARANTINE.schema
    [found] = result.quarantined.to_pylist()
    kept = json.loads(found.pop("line"))
    assert kept == ({"text": "1,2,3"} if MALFORMED in changes else broken)
    assert found == {
        "source": "source", "source_row": 2, "rule": rule, "detail": detail, "run_id": "run", "event_date": FIRST,
    }  # fmt: skip


def test_every_rule_is_documented_and_reached() -> None:
    assert {rule for _, rule, _ in REJECTED} | {"mixed_time_formats"} == set(RULES)


def test_dates_that_could_be_two_things_are_quarantined_where_the_file_is_mixed() -> None:
    rows = [line(1), line(2, InvoiceDate="01/08/2011 10:00")]
    result = judged(rows, time_format=TimeFormat.MIXED)
    assert (result.accepted.num_rows, result.quarantined["rule"].to_pylist()) == (1, ["mixed_time_formats"])


def test_exact_duplicates_are_counted_and_the_first_stays() -> None:
    bad = line(3, Price="-1")
    result = judged([line(1), line(2), line(1), bad, bad, line(1, Quantity="13")])
    assert (result.rows_in, result.accepted.num_rows, result.quarantined.num_rows, result.duplicates) == (6, 3, 2, 1)
    assert result.quarantined["source_row"].to_pylist() == [4, 5]


def test_lines_without_anything_are_rejected_lines_and_no_duplicates_of_each_other() -> None:
    nothing = dict.fromkeys(line(), "")
    result = judged([line(1), *[nothing] * 300])
    counts = (result.rows_in, result.accepted.num_rows, result.quarantined.num_rows, result.duplicates)
    assert counts == (301, 1, 300, 0)


def test_equal_lines_of_two_days_are_no_duplicates() -> None:
    """A line without a time may stand on two days; what is a duplicate must not depend on the range."""
    nothing = line(InvoiceDate="")
    days = [FIRST, FIRST + timedelta(days=1)]
    assert judged([nothing, nothing], days).duplicates == 0


ROWS = st.lists(
    st.builds(
        line,
        st.integers(0, 3),
        **{
            "Price": st.sampled_from(["6.95", "-1", "x", "", "0"]),
            "Quantity": st.sampled_from(["1", "-1", "", "2.5"]),
            "InvoiceDate": st.sampled_from(["2011-08-01 10:00:00", "2011-08-02 10:00:00", "", "x", "31/08/2011 1:00"]),
            "Customer ID": st.sampled_from(["1", ""]),
        },
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS)
@settings(max_examples=25)
def test_nothing_is_lost(rows: list[dict[str, Any]]) -> None:
    result = judged(rows)
    assert result.rows_in == len(rows)
    rejected = set(result.quarantined["source_row"].to_pylist())
    kept = [tuple(row.values()) for number, row in enumerate(rows, 1) if number not in rejected]
    assert result.duplicates == len(kept) - len(set(kept))
    assert not {tuple(rows[number - 1].values()) for number in rejected} & set(kept)
    assert result.accepted.num_rows == len(set(kept))
    assert set(result.quarantined["rule"].to_pylist()) <= set(RULES)


def test_a_balance_that_does_not_hold_stops_everything() -> None:
    with pytest.raises(DataQualityError, match=r"10 lines in, but 7 out \+ 1 quarantined \+ 1 duplicates = 9"):
        balance(10, 7, 1, 1)
    balance(10, 7, 1, 2)
