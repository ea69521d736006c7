"""Columns of the feature tables: what is stored, and how a missing entity reads.

Stored columns are exact (integers, strings, lists of integers) so that bulk, daily and incremental builds agree bit for
bit; `evergreen.features.relative` turns them into features. Names are unique over the three tables and never those of a
feature, so that a join of all of them is one flat row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int64", "float64", "string", "list<int64>"]

WINDOWS = (7, 28, 90, 365)
"""Days of the rolling windows `[as_of - w, as_of)`."""

TREND_WINDOWS = (7, 28, 90)
"""Windows that also have a deviation and a trend."""

LAGS = (1, 7, 28)
"""Days before `as_of` whose own value is kept."""

MEMORY_DAYS = 400
"""Purchase days are listed this far back: last year's season and two weeks around it."""

TEXT_BUCKETS = 8
"""Buckets that the words and word pairs of a description are hashed into."""

UNKNOWN = "unknown"
"""How a string of a missing entity reads."""


@dataclass(frozen=True)
class Column:
    """One stored column of a feature table."""

    name: str
    kind: Kind
    doc: str
    default: float | str | None = None  # how a missing entity reads; None: not a number, or an empty list


def _count(name: str, doc: str) -> Column:
    return Column(name, "int64", doc, 0.0)


def _value(name: str, doc: str) -> Column:
    return Column(name, "int64", doc)


def _text(name: str, doc: str) -> Column:
    return Column(name, "string", doc, UNKNOWN)


PAIR_COLUMNS: tuple[Column, ...] = (
    Column("pair_purchase_days", "list<int64>", "Epoch days with a purchase in the last 400 days, ascending"),
    Column("pair_purchase_quantities", "list<int64>", "Units bought on each of `pair_purchase_days`"),
    _count("pair_total_purchases", "Days with a purchase since the first"),
    _count("pair_total_lines", "Purchase lines since the first"),
    _count("pair_total_quantity", "Units bought since the first"),
    _count("pair_total_amount_minor", "Amount since the first, minor currency units"),
    _count("pair_sum_quantity_squares", "Sum over purchase days of the squared units of the day"),
    _value("pair_first_purchase_day", "Epoch day of the first purchase"),
    _value("pair_last_purchase_day", "Epoch day of the newest purchase"),
    _count("pair_sum_gap_squares", "Sum of the squared days between consecutive purchase days"),
    _count("pair_max_gap_days", "Longest gap between consecutive purchase days; 0 where there is one day"),
    _count("pair_last_gap_days", "Days between the newest two purchase days; 0 where there is one"),
    _value("pair_last_price_minor", "Unit price of the newest line, minor currency units"),
    _value("pair_min_price_minor", "Lowest unit price paid, minor currency units"),
    _value("pair_max_price_minor", "Highest unit price paid, minor currency units"),
)
"""Stored state of a (customer, product) pair: one row for each day with a purchase, true from the next day on."""

CUSTOMER_COLUMNS: tuple[Column, ...] = (
    _text("customer_country", "Country of the newest purchase line"),
    _text("customer_preferred_category", "Category with most purchase lines in 365 days; ties by alphabet"),
    Column("customer_purchase_days", "list<int64>", "Epoch days with a purchase in the last 400 days, ascending"),
    _count("customer_total_purchases", "Days with a purchase since the first"),
    _count("customer_total_lines", "Purchase lines since the first"),
    _count("customer_total_quantity", "Units bought since the first"),
    _count("customer_total_amount_minor", "Amount since the first, minor currency units"),
    _count("customer_total_products", "Different products ever bought"),
    _value("customer_first_purchase_day", "Epoch day of the first purchase"),
    _value("customer_last_purchase_day", "Epoch day of the newest purchase"),
    _count("customer_sum_gap_squares", "Sum of the squared days between consecutive purchase days"),
    _count("customer_max_gap_days", "Longest gap between consecutive purchase days; 0 where there is one day"),
    _count("customer_last_gap_days", "Days between the newest two purchase days; 0 where there is one"),
    *(_count(f"customer_purchases_{w}d", f"Days with a purchase in {w} days") for w in WINDOWS),
    *(_count(f"customer_lines_{w}d", f"Purchase lines in {w} days") for w in WINDOWS),
    *(_count(f"customer_quantity_{w}d", f"Units bought in {w} days") for w in WINDOWS),
    *(_count(f"customer_amount_minor_{w}d", f"Amount in {w} days, minor currency units") for w in WINDOWS),
    *(
        _count(f"customer_amount_squares_{w}d", f"Sum over {w} days of the day's squared amount, whole currency units")
        for w in TREND_WINDOWS
    ),
    *(
        _count(f"customer_amount_ages_{w}d", f"Sum over {w} days of (as_of - day) x the day's amount, minor units")
        for w in TREND_WINDOWS
    ),
    *(_count(f"customer_pair_days_{w}d", f"(product, day) purchases in {w} days") for w in WINDOWS),
    *(_count(f"customer_repeats_{w}d", f"(product, day) purchases in {w} days that are repeats") for w in WINDOWS),
    _count("customer_closed_repeats", "Repeats within 28 days, in [as_of - 180, as_of)"),
    _count("customer_closed_pair_days", "(product, day) purchases in [as_of - 208, as_of - 28)"),
    _count("customer_season_purchases", "Days with a purchase in last year's label window [as_of - 365, as_of - 337)"),
    _count("customer_season_lines", "Purchase lines in last year's label window"),
    _count("customer_season_amount_minor", "Amount in last year's label window, minor currency units"),
    *(_count(f"customer_lag_{lag}d", f"Amount on day as_of - {lag}, minor currency units") for lag in LAGS),
    _count("customer_cancellations_365d", "Lines of cancelled invoices in 365 days"),
    _count("customer_returns_365d", "Lines with returned goods in 365 days"),
)
"""Snapshot of a customer that bought within 365 days before `as_of`."""

PRODUCT_COLUMNS: tuple[Column, ...] = (
    Column("product_description", "string", "Newest description", ""),
    _text("product_category", "Category by the keywords of the newest description"),
    *(
        _count(f"product_text_hash_{i}", f"Words and word pairs of the description in hash bucket {i}")
        for i in range(TEXT_BUCKETS)
    ),
    _count("product_total_pair_days", "(customer, day) purchases since the first"),
    _count("product_total_customers", "Different known customers that ever bought it"),
    _count("product_total_lines", "Lines sold since the first, customer known or not"),
    _count("product_total_quantity", "Units sold since the first"),
    _count("product_total_amount_minor", "Amount since the first, minor currency units"),
    _value("product_first_day", "Epoch day of the first sale"),
    _value("product_last_day", "Epoch day of the newest sale"),
    *(_count(f"product_days_{w}d", f"Days with a sale in {w} days") for w in WINDOWS),
    *(_count(f"product_pair_days_{w}d", f"(customer, day) purchases in {w} days") for w in WINDOWS),
    *(_count(f"product_lines_{w}d", f"Lines sold in {w} days") for w in WINDOWS),
    *(_count(f"product_quantity_{w}d", f"Units sold in {w} days") for w in WINDOWS),
    *(_count(f"product_amount_minor_{w}d", f"Amount in {w} days, minor currency units") for w in WINDOWS),
    *(
        _count(f"product_line_squares_{w}d", f"Sum over {w} days of the day's squared number of lines")
        for w in TREND_WINDOWS
    ),
    *(
        _count(f"product_line_ages_{w}d", f"Sum over {w} days of (as_of - day) x the day's lines")
        for w in TREND_WINDOWS
    ),
    *(_count(f"product_repeats_{w}d", f"(customer, day) purchases in {w} days that are repeats") for w in WINDOWS),
    _count("product_repeat_gaps_365d", "Sum of the days between purchases over the repeats in 365 days"),
    _count("product_closed_repeats", "Repeats within 28 days, in [as_of - 180, as_of)"),
    _count("product_closed_pair_days", "(customer, day) purchases in [as_of - 208, as_of - 28)"),
    _count("product_season_lines", "Lines sold in last year's label window [as_of - 365, as_of - 337)"),
    _count("product_season_pair_days", "(customer, day) purchases in last year's label window"),
    _count("product_season_before_lines", "Lines sold in the 28 days before last year's label window"),
    *(_count(f"product_lag_{lag}d", f"Lines sold on day as_of - {lag}") for lag in LAGS),
    _value("product_last_price_minor", "Unit price of the newest line, minor currency units"),
    _value("product_min_price_minor_365d", "Lowest unit price in 365 days, minor currency units"),
    _value("product_max_price_minor_365d", "Highest unit price in 365 days, minor currency units"),
    _count("product_cancellations_365d", "Lines of cancelled invoices in 365 days"),
    _count("product_returns_365d", "Lines with returned goods in 365 days"),
)
"""Snapshot of a product that was sold within 365 days before `as_of`."""

FACTOR_UNIT = 4096
"""Factors are stored as whole numbers of 1 / 4096: exact when multiplied and summed, whoever does it."""

CUSTOMER_FACTOR_COLUMNS: tuple[Column, ...] = (
    Column("customer_factors", "list<int64>", f"The customer's vector, in 1/{FACTOR_UNIT}"),
)
PRODUCT_FACTOR_COLUMNS: tuple[Column, ...] = (
    Column("product_factors", "list<int64>", f"The product's vector, in 1/{FACTOR_UNIT}"),
)
"""Vectors of implicit ALS, if `settings.features.factors` asks for them. Those of two days are not comparable."""
