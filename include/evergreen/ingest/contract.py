"""The canonical contract: typed, flagged purchase lines out of text, and a named rule for each line that is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from evergreen.errors import DataQualityError
from evergreen.ingest.layout import Layout, TimeFormat, is_slashed, number_sql, text, time_sql, whole_number_sql
from evergreen.ingest.lines import DAY, MALFORMED, ROW, SOURCE, engine, literal, quoted
from evergreen.lake.schemas import QUARANTINE, TRANSACTIONS
from evergreen.settings.ingest import IngestSettings

TRANSFORM = "transactions/2"

RULES: dict[str, str] = {
    "wrong_field_count": "The line has more or fewer fields than the header.",
    "missing_time": "It has no time.",
    "mixed_time_formats": "Its time could be day first or month first, and the file does not write all times one way.",
    "unreadable_time": "Its time is no time.",
    "absurd_time": "It is dated before `settings.ingest.earliest_day`.",
    "future_time": "It is dated after the day of its drop, or after today.",
    "other_day": "It stands in the drop of another day.",
    "missing_invoice": "It has no invoice.",
    "missing_product": "It has no product code.",
    "missing_quantity": "It has no quantity.",
    "unreadable_quantity": "Its quantity is no whole number.",
    "missing_price": "It has no unit price.",
    "unreadable_price": "Its unit price is no number.",
    "negative_price": "Its unit price is below 0 (bad debt and other adjustments).",
    "absurd_price": "Its unit price is above `settings.ingest.max_unit_price`.",
    "absurd_quantity": "Its quantity is beyond `settings.ingest.max_quantity`.",
}


@dataclass(frozen=True)
class Judged:
    """What became of a chunk of whole days: every line is accepted, quarantined or an exact duplicate."""

    accepted: pa.Table  # schema of `transactions`, ordered by day and then canonically
    quarantined: pa.Table  # schema of `quarantine`, ordered by day, source and row
    rows_in: int
    duplicates: int


def judge(lines: pa.Table, layout: Layout, settings: IngestSettings, *, run_id: str) -> Judged:
    """Applies the contract to whole days of lines.

    A line's fate depends on its own text, on its day's other lines (exact duplicates: the first stays) and on the
    layout of its source, never on which other days are loaded with it: so a range and its days give the same rows.
    Rules come before copies: a day of empty lines is a day of rejected lines, not of duplicates.

    Args:
        lines: `DAY`, `SOURCE`, `ROW`, `MALFORMED` and the source's columns as text.
        layout: how the source writes what.
        settings: limits of the contract.
        run_id: recorded with rejected lines.

    Raises:
        DataQualityError: rows in are not rows out + quarantined + duplicates.
    """
    # A source's own names may clash with ours (`is_purchase`): inside, its columns are numbered.
    own = {name: f"#{index}" for index, name in enumerate(layout.columns)}
    numbered = Layout(
        {canonical: name and own[name] for canonical, name in layout.mapping.items()},
        tuple(own[name] for name in layout.extras),
        layout.time_format,
        tuple(own.values()),
    )
    with engine() as connection:
        connection.register("lines", lines.rename_columns([own.get(name, name) for name in lines.column_names]))
        connection.execute(f"CREATE TEMP TABLE judged AS {_judged_sql(numbered, settings)}")
        accepted = connection.sql(_accepted_sql(numbered, settings, _json(own, layout.extras))).to_arrow_table()
        quarantined = connection.sql(_quarantined_sql(layout, _json(own, layout.columns), run_id)).to_arrow_table()
        duplicates = _count(connection, "SELECT count(*) FROM judged WHERE copy > 1 AND rule_ IS NULL")
    balance(lines.num_rows, accepted.num_rows, quarantined.num_rows, duplicates)
    return Judged(accepted.cast(TRANSACTIONS.schema), quarantined.cast(QUARANTINE.schema), lines.num_rows, duplicates)


def balance(rows_in: int, rows_out: int, quarantined: int, duplicates: int) -> None:
    """Raises DataQualityError unless rows in = rows out + quarantined + duplicates."""
    if rows_in != rows_out + quarantined + duplicates:
        raise DataQualityError(
            f"transactions: {rows_in:,} lines in, but {rows_out:,} out + {quarantined:,} quarantined + "
            f"{duplicates:,} duplicates = {rows_out + quarantined + duplicates:,}. Nothing was published; report this"
        )


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    [(number,)] = connection.execute(query).fetchall()
    return int(number)


def _judged_sql(layout: Layout, settings: IngestSettings) -> str:
    source = layout.mapping
    columns = ", ".join(quoted(name) for name in layout.columns)
    time = text(source["event_time"])
    customer = text(source["customer_id"])
    return f"""
        WITH typed AS (
            SELECT *,
                row_number() OVER (PARTITION BY "{DAY}", "{MALFORMED}", {columns} ORDER BY "{SOURCE}", "{ROW}") AS copy,
                {text(source["invoice_id"])} AS invoice_id_,
                upper({text(source["product_id"])}) AS product_id_,
                {text(source["quantity"])} AS quantity_text_,
                {whole_number_sql(text(source["quantity"]))} AS quantity_,
                {text(source["unit_price"])} AS price_text_,
                {number_sql(text(source["unit_price"]))} AS price_,
                {time} AS time_text_,
                {time_sql(time, layout.time_format)} AS time_,
                CASE WHEN lower({customer}) NOT IN ('nan', 'none', 'null')
                    THEN regexp_replace({customer}, '^(\\d+)\\.0+$', '\\1') END AS customer_id_
            FROM lines
        )
        SELECT *, {_rule_sql(layout, settings)} AS rule_ FROM typed
    """


def _rule_sql(layout: Layout, settings: IngestSettings) -> str:
    mixed = is_slashed("time_text_") if layout.time_format is TimeFormat.MIXED else "false"
    return f"""CASE
        WHEN "{MALFORMED}" IS NOT NULL THEN 'wrong_field_count'
        WHEN time_text_ IS NULL THEN 'missing_time'
        WHEN time_ IS NULL AND {mixed} THEN 'mixed_time_formats'
        WHEN time_ IS NULL THEN 'unreadable_time'
        WHEN CAST(time_ AS DATE) < DATE '{settings.earliest_day}' THEN 'absurd_time'
        WHEN CAST(time_ AS DATE) > "{DAY}" THEN 'future_time'
        WHEN CAST(time_ AS DATE) < "{DAY}" THEN 'other_day'
        WHEN invoice_id_ IS NULL THEN 'missing_invoice'
        WHEN product_id_ IS NULL THEN 'missing_product'
        WHEN quantity_text_ IS NULL THEN 'missing_quantity'
        WHEN quantity_ IS NULL THEN 'unreadable_quantity'
        WHEN price_text_ IS NULL THEN 'missing_price'
        WHEN price_ IS NULL THEN 'unreadable_price'
        WHEN price_ < 0 THEN 'negative_price'
        WHEN price_ > {settings.max_unit_price!r} THEN 'absurd_price'
        WHEN abs(quantity_::HUGEINT) > {settings.max_quantity} THEN 'absurd_quantity'
    END"""


def _json(own: Mapping[str, str], columns: Sequence[str]) -> str:
    """SQL of a JSON object of source columns under their own names."""
    if not columns:
        return "CAST(NULL AS VARCHAR)"
    pairs = ", ".join(f"{literal(name)}, {quoted(own[name])}" for name in columns)
    return f"CAST(json_object({pairs}) AS VARCHAR)"


def _accepted_sql(layout: Layout, settings: IngestSettings, extra: str) -> str:
    names = [field.name for field in TRANSACTIONS.file_schema]
    codes = ", ".join(literal(code.upper()) for code in settings.non_products)
    # Millionths of the currency as integers: exact for prices with up to six decimals; then half to even by hand.
    return f"""
        WITH flagged AS (
            SELECT *,
                upper(invoice_id_[1]) = 'C' AS is_cancellation,
                quantity_ < 0 AS is_return,
                CASE WHEN starts_with(product_id_, 'GIFT_') THEN 'GIFT' ELSE product_id_ END
                    NOT IN ({codes}) AS is_product,
                abs(quantity_::HUGEINT) * CAST(round(price_ * 1000000) AS HUGEINT) AS millionths,
                millionths // 10000 AS whole,
                millionths % 10000 AS rest
            FROM judged WHERE copy = 1 AND rule_ IS NULL
        )
        SELECT
            invoice_id_ AS invoice_id,
            product_id_ AS product_id,
            {text(layout.mapping["description"])} AS description,
            quantity_ AS quantity,
            time_ AS event_time,
            price_ + 0.0 AS unit_price,
            CAST(sign(quantity_) * (whole + (rest > 5000 OR (rest = 5000 AND whole % 2 = 1))::INT) AS BIGINT)
                AS amount_minor,
            customer_id_ AS customer_id,
            {text(layout.mapping["country"])} AS country,
            is_cancellation, is_return, is_product,
            customer_id_ IS NOT NULL AND is_product AND quantity_ > 0 AND price_ > 0 AND NOT is_cancellation
                AS is_purchase,
            {extra} AS extra,
            "{DAY}" AS event_date
        FROM flagged
        ORDER BY event_date, {", ".join(names)}
    """


def _quarantined_sql(layout: Layout, line: str, run_id: str) -> str:
    details = {
        "wrong_field_count": f"concat('expected {len(layout.columns)} fields: ', \"{MALFORMED}\")",
        "missing_invoice": literal(f"{layout.mapping['invoice_id']} is empty"),
        "missing_product": literal(f"{layout.mapping['product_id']} is empty"),
    }
    shown = {
        "time": ("event_time", "time_text_"),
        "price": ("unit_price", "price_text_"),
        "quantity": ("quantity", "quantity_text_"),
    }
    for rule in RULES:
        kind = next((word for word in shown if word in rule), "time")
        column, value = shown[kind]
        seen = f"coalesce({value}, 'empty')"
        details.setdefault(rule, f"concat({literal(f'{layout.mapping[column]} is ')}, {seen})")
    detail = " ".join(f"WHEN {literal(rule)} THEN {sql}" for rule, sql in details.items())
    return f"""
        SELECT
            "{SOURCE}" AS source,
            "{ROW}" AS source_row,
            rule_ AS rule,
            CASE rule_ {detail} END AS detail,
            CASE WHEN "{MALFORMED}" IS NULL THEN {line}
                ELSE CAST(json_object('text', "{MALFORMED}") AS VARCHAR) END AS line,
            {literal(run_id)} AS run_id,
            "{DAY}" AS event_date
        FROM judged WHERE rule_ IS NOT NULL
        ORDER BY event_date, source, source_row
    """
