"""Which source column is which column of the contract, and how its times are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from evergreen.errors import SourceError
from evergreen.ingest.lines import literal, quoted

# Canonical column: how sources call it. Compared without case, spaces and punctuation.
ALIASES: dict[str, tuple[str, ...]] = {
    "invoice_id": ("Invoice", "InvoiceNo", "Invoice ID", "Invoice Number"),
    "product_id": ("StockCode", "Product ID", "Product Code"),
    "description": ("Description",),
    "quantity": ("Quantity",),
    "event_time": ("InvoiceDate", "Event Time"),
    "unit_price": ("Price", "UnitPrice"),
    "customer_id": ("Customer ID",),
    "country": ("Country",),
}


class TimeFormat(StrEnum):
    """How a source writes its times."""

    ISO = "iso"  # 2011-08-31 17:05:00
    DAY_FIRST = "day_first"  # 31/08/2011 17:05
    MONTH_FIRST = "month_first"  # 8/31/11 17:05
    MIXED = "mixed"  # several: lines that are not ISO cannot be read for sure


_BLANKS = " \t\r\n\u00a0"
_ISO = r"\d{4}-\d{2}-\d{2}([ T]\d{1,2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|[+-]\d{2}:\d{2}))?)?"
_OFFSET = r"[+-]\d{2}:\d{2}$"
_SLASHED = r"\d{1,2}[/.-]\d{1,2}[/.-](\d{2}|\d{4})([ T]\d{1,2}:\d{2}(:\d{2})?)?"
_FOUR_DIGIT_YEAR = r"^\d+[/.-]\d+[/.-]\d{4}"


@dataclass(frozen=True)
class Layout:
    """How to read the lines of one source."""

    mapping: Mapping[str, str | None]  # canonical column: source column, None where it is declared absent
    extras: tuple[str, ...]  # source columns that the contract does not know
    time_format: TimeFormat = TimeFormat.ISO
    columns: tuple[str, ...] = field(default=())  # all source columns in their order


@dataclass(frozen=True)
class Chunk:
    """Whole days of source lines and how to read them."""

    lines: pa.Table  # `DAY`, `SOURCE`, `ROW`, `MALFORMED` and the source's columns as text
    layout: Layout


def map_columns(name: str, columns: Sequence[str], mapping: Mapping[str, str]) -> Layout:
    """Finds the contract's columns among a source's headers.

    Args:
        name: of the source, for messages.
        columns: headers as they stand in the source.
        mapping: `canonical: source` from settings; an empty source column declares an optional column absent.

    Raises:
        SourceError: a column is missing, stands twice, or is mapped to one that is not there; names what was seen.
    """
    found: dict[str, str | None] = {}
    missing: list[str] = []
    for canonical, aliases in ALIASES.items():
        if mapping.get(canonical) == "":
            found[canonical] = None
            continue
        wanted = (mapping[canonical],) if mapping.get(canonical) else (canonical, *aliases)
        keys = set(map(header_key, wanted))
        hits = [column for column in columns if header_key(column) in keys]
        if len(hits) > 1:
            raise SourceError(
                f"{name}: columns {_names(hits)} all mean {canonical}; expected one. "
                f"Say which in settings.ingest.columns, e.g. {{{canonical}: {hits[0]}}}"
            )
        if hits:
            found[canonical] = hits[0]
        else:
            missing.append(f"{canonical} ({' or '.join(wanted if mapping.get(canonical) else aliases)})")
    if missing:
        raise SourceError(
            f"{name}: no column for {', '.join(missing)}; its columns are {_names(columns)}. "
            "Map others in settings.ingest.columns (canonical: source)"
        )
    used = set(found.values())
    extras = tuple(column for column in columns if column not in used)
    return Layout(found, extras, columns=tuple(columns))


def text(column: str | None) -> str:
    """SQL of a source column, trimmed; null where it is blank."""
    if column is None:
        return "CAST(NULL AS VARCHAR)"
    return f"nullif(trim({quoted(column)}, {literal(_BLANKS)}), '')"


def time_sql(value: str, time_format: TimeFormat) -> str:
    """SQL that reads the text `value` as a time (UTC), null where it cannot be read for sure."""
    iso = (
        f"CASE WHEN NOT regexp_full_match({value}, {literal(_ISO)}) THEN NULL "
        f"WHEN regexp_matches({value}, {literal(_OFFSET)}) THEN {_without_offset(value)} "
        f"ELSE TRY_CAST({value} AS TIMESTAMP) END"
    )
    if time_format in (TimeFormat.ISO, TimeFormat.MIXED):
        return iso
    date = "%d/%m/" if time_format is TimeFormat.DAY_FIRST else "%m/%d/"
    plain = f"replace(replace(replace({value}, '-', '/'), '.', '/'), 'T', ' ')"
    four_digits = f"regexp_matches({value}, {literal(_FOUR_DIGIT_YEAR)})"
    slashed = f"CASE WHEN {four_digits} THEN {_strptime(plain, date + '%Y')} ELSE {_strptime(plain, date + '%y')} END"
    return f"CASE WHEN {is_slashed(value)} THEN {slashed} ELSE {iso} END"


def _without_offset(value: str) -> str:
    """SQL of a time with an offset (`+05:30`), in UTC: a cast to TIMESTAMP would drop the offset unread."""
    offset = f"regexp_extract({value}, {literal(_OFFSET)})"
    minutes = f"CAST({offset}[2:3] AS BIGINT) * 60 + CAST({offset}[5:6] AS BIGINT)"
    signed = f"CASE WHEN {offset}[1] = '-' THEN -1 ELSE 1 END * ({minutes})"
    return f"TRY_CAST(trim(regexp_replace({value}, {literal(_OFFSET)}, '')) AS TIMESTAMP) - to_minutes({signed})"


def _strptime(value: str, date: str) -> str:
    formats = ", ".join(literal(date + clock) for clock in ("", " %H:%M", " %H:%M:%S"))
    return f"try_strptime({value}, [{formats}])"


def is_slashed(value: str) -> str:
    """SQL: does the text look like a date whose day and month could be taken for each other?"""
    return f"regexp_full_match({value}, {literal(_SLASHED)})"


def whole_number_sql(value: str) -> str:
    """SQL that reads a text as a whole number (`12`, `-3`, `12.0`), null where it is none."""
    return rf"CASE WHEN regexp_full_match({value}, '[+-]?\d+(\.0*)?') THEN TRY_CAST({value} AS BIGINT) END"


def number_sql(value: str) -> str:
    """SQL that reads a text as a finite number (`6.95`, `-1`, `1e-05`), null where it is none."""
    return (
        rf"CASE WHEN regexp_full_match({value}, '[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{{1,3}})?') "
        f"AND isfinite(TRY_CAST({value} AS DOUBLE)) THEN TRY_CAST({value} AS DOUBLE) END"
    )


def header_key(header: str) -> str:
    """A header without case, spaces and punctuation."""
    return re.sub(r"[^0-9a-z]", "", header.casefold())


def _names(columns: Sequence[str]) -> str:
    return ", ".join(columns)
