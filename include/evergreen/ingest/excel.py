"""Excel workbooks: every sheet with lines, one after another (UCI Online Retail II has a sheet a year)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook

from evergreen.errors import SourceError
from evergreen.ingest.layout import header_key
from evergreen.ingest.lines import BATCH_ROWS, RawTable, raw_schema


def open_workbook(path: Path, checked: Callable[[str, list[str]], tuple[str, ...]]) -> RawTable:
    """Opens a workbook whose sheets hold the same columns, in any order.

    Args:
        path: the .xlsx file.
        checked: makes usable column names of a header, or refuses it.

    Raises:
        SourceError: it is no workbook, has no lines, or a sheet has other columns than the first.
    """
    try:
        workbook = CalamineWorkbook.from_path(path)
        headers = {name: _header(workbook, name) for name in workbook.sheet_names}
    except CalamineError as error:
        raise SourceError(f"{path.name} is no Excel workbook ({error}); expected .xlsx. Get it again") from None
    sheets = {
        name: checked(f"{path.name}, sheet {name}", list(map(_text, header)))
        for name, header in headers.items()
        if header
    }
    if not sheets:
        raise SourceError(f"{path.name} has no sheet with a header; expected one such as Invoice, StockCode, ...")
    first, columns = next(iter(sheets.items()))
    for sheet, other in sheets.items():
        if sorted(map(header_key, other)) != sorted(map(header_key, columns)):
            raise SourceError(
                f"{path.name}: sheet {sheet} has columns {', '.join(other)}, sheet {first} has {', '.join(columns)}; "
                "expected the same ones. Save each kind of table as a file of its own"
            )
    return RawTable(path.name, columns, _batches(workbook, sheets, columns))


def _header(workbook: CalamineWorkbook, sheet: str) -> list[Any]:
    return next(iter(workbook.get_sheet_by_name(sheet).iter_rows()), [])


def _batches(
    workbook: CalamineWorkbook, sheets: dict[str, tuple[str, ...]], columns: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    seen = 0
    for sheet, header in sheets.items():
        keys = list(map(header_key, header))
        order = [keys.index(header_key(column)) for column in columns]
        rows = iter(workbook.get_sheet_by_name(sheet).iter_rows())
        next(rows)
        while batch := list(islice(rows, BATCH_ROWS)):
            filled = [row for row in batch if any(value != "" for value in row)]
            values = list(zip(*filled, strict=True)) if filled else [()] * len(header)
            arrays = [pa.array(map(_text, values[position]), pa.string()) for position in order]
            numbers = pa.array(np.arange(seen + 1, seen + len(filled) + 1))
            seen += len(filled)
            if filled:
                yield pa.RecordBatch.from_arrays(
                    [numbers, pa.nulls(len(filled), pa.string()), *arrays], schema=raw_schema(columns)
                )


def _text(value: Any) -> str:
    """A cell as text: Excel keeps every number as a float, invoices and customers included."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)
