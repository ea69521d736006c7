"""Small files of purchase lines."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

HEADER = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
FIRST = date(2011, 8, 1)


def line(number: int = 1, day: date = FIRST, **changes: Any) -> dict[str, Any]:
    """One good line; `changes` by header."""
    time = datetime.combine(day, datetime.min.time()) + timedelta(hours=9, minutes=number % 480)
    good = {
        "Invoice": str(489434 + number),
        "StockCode": "85048",
        "Description": "15CM CHRISTMAS GLASS BALL 20 LIGHTS",
        "Quantity": "12",
        "InvoiceDate": str(time),
        "Price": "6.95",
        "Customer ID": "13085",
        "Country": "United Kingdom",
    }
    return good | changes


def days_of_lines(days: int = 3, each: int = 30) -> list[dict[str, Any]]:
    """Good lines of consecutive days."""
    return [line(number, FIRST + timedelta(days=day)) for day in range(days) for number in range(each)]


def as_csv(rows: Sequence[Mapping[str, Any]], header: Sequence[str] | None = None) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(header or (rows[0] if rows else HEADER)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines to a CSV file: `write("name.csv.gz", rows)`."""

    def write_them(name: str, rows: Sequence[Mapping[str, Any]] | str | bytes, encoding: str = "utf-8") -> Path:
        text = rows if isinstance(rows, str | bytes) else as_csv(rows)
        data = text if isinstance(text, bytes) else text.encode(encoding)
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return file

    return write_them
