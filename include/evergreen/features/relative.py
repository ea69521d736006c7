"""Features that depend on when they are asked for: pure functions of stored state and `as_of`.

The one place where they are computed, for training, Feast offline and online, serving and Spark. A row's features are
the same bytes whether it comes alone or among a million: sums go through `bincount` (one after the other), roots and
divisions are exact by IEEE 754, and powers and sines are looked up in tables, since vectorised ones may round
differently at different places of an array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.features.registry import CUSTOMER_HALF_LIVES, FEATURES, PAIR_HALF_LIVES, SEQUENCES
from evergreen.features.state import Floats, Ints, Ragged, State, Texts, state
from evergreen.lake.feature_columns import LAGS, MEMORY_DAYS, TEXT_BUCKETS, TREND_WINDOWS, UNKNOWN, WINDOWS
from evergreen.settings.prediction import HORIZON_DAYS

__all__ = ["FEATURES", "State", "calendar", "customer", "features", "interactions", "pair", "product", "raw", "state"]

Made = dict[str, npt.NDArray[Any]]

PRIOR_RATE = 0.06
"""Repurchase rate within 28 days that little evidence is drawn to, worth `PRIOR_WEIGHT` purchases."""
PRIOR_WEIGHT = 20.0

PRICE_TIERS = ((1.0, "budget"), (2.0, "low"), (5.0, "mid"), (10.0, "high"), (math.inf, "premium"))
FREQUENCY_TIERS = ((40, "weekly"), (10, "monthly"), (4, "quarterly"), (1, "rare"))

_DECAY = {
    half_life: np.array([0.5 ** (age / half_life) if 0 < age <= MEMORY_DAYS else 0.0 for age in range(MEMORY_DAYS + 2)])
    for half_life in {*PAIR_HALF_LIVES, *CUSTOMER_HALF_LIVES}
}
_ANGLE = [2 * math.pi * day / 365.25 for day in range(367)]
_SINE, _COSINE = np.array([math.sin(angle) for angle in _ANGLE]), np.array([math.cos(angle) for angle in _ANGLE])


def features(columns: Mapping[str, Any] | State, as_of_day: npt.ArrayLike) -> Made:
    """All features of `FEATURES`, in their order.

    Args:
        columns: the stored columns of pairs, customers and products, n rows each (see `State`).
        as_of_day: n epoch days (or one for all): everything before that day 00:00 UTC is known, nothing after.

    Returns:
        Arrays of n values: float64 with NaN for what is not known, or strings (objects).

    Raises:
        KeyError: a stored column is missing.
    """
    given = state(columns)
    days = _days(given, as_of_day)
    of_pair, of_customer, of_product = pair(given, days), customer(given, days), product(given, days)
    made = {
        **of_pair,
        **of_customer,
        **of_product,
        **_interactions(given, days, of_pair, of_customer, of_product),
        **calendar(days),
        **raw(given, days),
    }
    return {feature.name: made[feature.name] for feature in FEATURES}


def pair(columns: Mapping[str, Any] | State, as_of_day: npt.ArrayLike) -> Made:
    """Features of pairs, from `PAIR_COLUMNS`."""
    given = state(columns)
    as_of = _days(given, as_of_day)
    days, units = given.lists("pair_purchase_days"), given.lists("pair_purchase_quantities")
    ages = days.spread(as_of) - days.values
    total = given.numbers("pair_total_purchases")
    first, last = given.numbers("pair_first_purchase_day"), given.numbers("pair_last_purchase_day")
    recency, tenure = as_of - last, as_of - first
    gap_mean, gap_std = _gaps(first, last, total, given.numbers("pair_sum_gap_squares"))
    quantity, amount = given.numbers("pair_total_quantity"), given.numbers("pair_total_amount_minor") / 100
    price = given.numbers("pair_last_price_minor") / 100
    quantity_mean = _ratio(quantity, total)
    last_gap = given.numbers("pair_last_gap_days")
    return {
        "pair_recency_days": recency,
        "pair_tenure_days": tenure,
        "pair_purchases": total,
        **{f"pair_purchases_{w}d": days.sum(_within(ages, w)) for w in WINDOWS[1:]},
        **{f"pair_decayed_{h}d": days.sum(_decayed(ages, h)) for h in PAIR_HALF_LIVES},
        "pair_rate_per_28d": _ratio(total * 28, np.maximum(tenure, 28)),
        "pair_gap_mean_days": gap_mean,
        "pair_gap_std_days": gap_std,
        "pair_gap_last_days": np.where(total > 1, last_gap, np.nan),
        "pair_gap_share_elapsed": _ratio(recency, gap_mean),
        "pair_regularity": _ratio(gap_std, gap_mean),
        "pair_days_to_expected": gap_mean - recency,
        "pair_season_purchases": days.sum(_between(ages, 338, 365)),
        "pair_season_nearby": days.sum(_between(ages, 324, 379)),
        "pair_quantity_mean": quantity_mean,
        "pair_quantity_std": _deviation(given.numbers("pair_sum_quantity_squares"), quantity, total),
        "pair_quantity_365d": days.sum(units.values * _within(ages, 365)),
        "pair_value_mean": _ratio(amount, total),
        "pair_price_last": price,
        "pair_price_last_to_usual": _ratio(price, _ratio(amount, quantity)),
    }


def customer(columns: Mapping[str, Any] | State, as_of_day: npt.ArrayLike) -> Made:
    """Features of customers, from `CUSTOMER_COLUMNS`."""
    given = state(columns)
    as_of = _days(given, as_of_day)
    days = given.lists("customer_purchase_days")
    ages = days.spread(as_of) - days.values
    number = given.numbers
    total = number("customer_total_purchases")
    first, last = number("customer_first_purchase_day"), number("customer_last_purchase_day")
    recency, tenure = as_of - last, as_of - first
    gap_mean, gap_std = _gaps(first, last, total, number("customer_sum_gap_squares"))
    counts = {w: number(f"customer_purchases_{w}d") for w in WINDOWS}
    spend = {w: number(f"customer_amount_minor_{w}d") / 100 for w in WINDOWS}
    lines = number("customer_lines_365d")
    recent_gap, overdue, due = _rhythm(days, recency)
    return {
        "days_since_last_purchase": recency,
        "total_purchases": total,
        "avg_purchase_value": _ratio(number("customer_total_amount_minor") / 100, total),
        "customer_tenure_days": tenure,
        **{f"customer_days_{w}d": counts[w] for w in WINDOWS},
        **{f"customer_decayed_{h}d": days.sum(_decayed(ages, h)) for h in CUSTOMER_HALF_LIVES},
        "customer_gap_mean_days": gap_mean,
        "customer_gap_last_days": np.where(total > 1, number("customer_last_gap_days"), np.nan),
        "customer_gap_share_elapsed": _ratio(recency, gap_mean),
        "customer_gap_recent_mean_days": recent_gap,
        "customer_overdue_share": overdue,
        "customer_due_share": due,
        "customer_regularity": _ratio(gap_std, gap_mean),
        "customer_products": number("customer_total_products"),
        "customer_products_per_day_365d": _ratio(number("customer_pair_days_365d"), counts[365]),
        "customer_spend_365d": spend[365],
        **{f"customer_spend_mean_{w}d": spend[w] / w for w in TREND_WINDOWS[1:]},
        **{
            f"customer_spend_std_{w}d": _deviation(number(f"customer_amount_squares_{w}d"), spend[w], w)
            for w in TREND_WINDOWS[1:]
        },
        **{
            f"customer_spend_trend_{w}d": _trend(number(f"customer_amount_ages_{w}d") / 100, spend[w], w)
            for w in TREND_WINDOWS[1:]
        },
        "customer_momentum_90d": _smoothed(counts[90], counts[365] * 90 / 365),
        "customer_repeat_share_365d": _ratio(number("customer_repeats_365d"), number("customer_pair_days_365d")),
        "customer_repurchase_rate": _rate(number("customer_closed_repeats"), number("customer_closed_pair_days")),
        "customer_season_days": number("customer_season_purchases"),
        **{f"customer_spend_lag_{lag}d": number(f"customer_lag_{lag}d") / 100 for lag in LAGS},
        "customer_unit_price": _ratio(spend[365], number("customer_quantity_365d")),
        "customer_cancellation_share": number("customer_cancellations_365d") / (lines + 1),
        "customer_return_share": number("customer_returns_365d") / (lines + 1),
        "country": given.texts("customer_country"),
        "preferred_category": given.texts("customer_preferred_category"),
        "user_segment": _segment(recency, tenure, counts[365]),
        "purchase_frequency_tier": _frequency_tier(counts[365]),
    }


def product(columns: Mapping[str, Any] | State, as_of_day: npt.ArrayLike) -> Made:
    """Features of products, from `PRODUCT_COLUMNS`."""
    given = state(columns)
    as_of = _days(given, as_of_day)
    number = given.numbers
    age = as_of - number("product_first_day")
    lines = {w: number(f"product_lines_{w}d") for w in WINDOWS}
    pair_days, quantity = number("product_pair_days_365d"), number("product_quantity_365d")
    season, before = number("product_season_lines"), number("product_season_before_lines")
    price = number("product_last_price_minor") / 100
    usual = _ratio(number("product_amount_minor_365d") / 100, quantity)
    spread = (number("product_max_price_minor_365d") - number("product_min_price_minor_365d")) / 100
    existed = age > 365 - HORIZON_DAYS // 2  # was on sale by the middle of last year's window
    return {
        "product_recency_days": as_of - number("product_last_day"),
        "product_age_days": age,
        "product_is_new": np.where(np.isnan(age), np.nan, age <= 90),
        **{f"product_buyers_{w}d": number(f"product_pair_days_{w}d") for w in WINDOWS[1:]},
        "product_sales_365d": lines[365],
        **{f"product_sales_mean_{w}d": lines[w] / w for w in TREND_WINDOWS},
        **{
            f"product_sales_std_{w}d": _deviation(number(f"product_line_squares_{w}d"), lines[w], w)
            for w in TREND_WINDOWS
        },
        **{f"product_sales_trend_{w}d": _trend(number(f"product_line_ages_{w}d"), lines[w], w) for w in TREND_WINDOWS},
        "product_momentum_7d": _smoothed(lines[7], lines[28] / 4),
        "product_momentum_28d": _smoothed(lines[28], lines[90] * 28 / 90),
        "product_momentum_90d": _smoothed(lines[90], lines[365] * 90 / 365),
        "product_season_index": np.where(existed, _smoothed(season, lines[365] * HORIZON_DAYS / 365), np.nan),
        "product_season_rise": np.where(existed, _smoothed(season, before), np.nan),
        "product_season_buyers": np.where(existed, number("product_season_pair_days"), np.nan),
        **{f"product_sales_lag_{lag}d": number(f"product_lag_{lag}d") for lag in LAGS},
        "product_repeat_share_365d": _ratio(number("product_repeats_365d"), pair_days),
        "product_repeat_gap_days": _ratio(number("product_repeat_gaps_365d"), number("product_repeats_365d")),
        "product_repurchase_rate": _rate(number("product_closed_repeats"), number("product_closed_pair_days")),
        "product_purchases_per_customer": _ratio(number("product_total_pair_days"), number("product_total_customers")),
        "product_units_per_line": _ratio(quantity, lines[365]),
        "product_price_last": price,
        "product_price_last_to_usual": _ratio(price, usual),
        "product_price_spread": _ratio(spread, usual),
        "product_return_share": number("product_returns_365d") / (lines[365] + 1),
        **{f"text_hash_{i}": number(f"product_text_hash_{i}") for i in range(TEXT_BUCKETS)},
        "category": given.texts("product_category"),
        "price_tier": _price_tier(usual),
    }


def interactions(columns: Mapping[str, Any] | State, as_of_day: npt.ArrayLike) -> Made:
    """Features of a pair against its customer and its product, from all stored columns."""
    given = state(columns)
    as_of = _days(given, as_of_day)
    return _interactions(given, as_of, pair(given, as_of), customer(given, as_of), product(given, as_of))


def _interactions(given: State, as_of: Ints, of_pair: Made, of_customer: Made, of_product: Made) -> Made:
    visits, days = given.lists("customer_purchase_days"), given.lists("pair_purchase_days")
    first, last = given.numbers("pair_first_purchase_day"), given.numbers("pair_last_purchase_day")
    remembered = np.maximum(first, as_of - MEMORY_DAYS)
    visits_since = visits.sum((visits.values > visits.spread(last)) & (visits.values < visits.spread(as_of)))
    visits_since_first = visits.sum(
        (visits.values >= visits.spread(remembered)) & (visits.values < visits.spread(as_of))
    )
    bought_since_first = days.sum((days.values >= days.spread(remembered)) & (days.values < days.spread(as_of)))
    share = _ratio(of_pair["pair_purchases_365d"], of_customer["customer_days_365d"])
    price = of_product["product_price_last"]
    return {
        "visits_since_pair_purchase": np.where(np.isnan(last), np.nan, visits_since),
        "pair_share_of_visits_365d": share,
        "pair_share_of_visits_since_first": _ratio(bought_since_first, visits_since_first),
        "recency_pair_to_customer": _ratio(
            of_pair["pair_recency_days"] + 1, of_customer["days_since_last_purchase"] + 1
        ),
        "gap_pair_to_customer": _ratio(of_pair["pair_gap_mean_days"], of_customer["customer_gap_mean_days"]),
        "pair_recency_to_product_gap": _ratio(of_pair["pair_recency_days"], of_product["product_repeat_gap_days"]),
        "pair_share_of_spend": _ratio(
            given.numbers("pair_total_amount_minor"), given.numbers("customer_total_amount_minor")
        ),
        "pair_share_of_product": _ratio(of_pair["pair_purchases"], given.numbers("product_total_pair_days")),
        "pair_rate_by_momentum": of_pair["pair_decayed_60d"] * of_product["product_momentum_28d"],
        "pair_rate_by_season": of_pair["pair_decayed_180d"] * of_product["product_season_index"],
        "visit_rate_by_repurchase": of_customer["customer_decayed_30d"] * of_product["product_repurchase_rate"],
        "expected_pair_purchases_28d": of_customer["customer_days_90d"] * 28 / 90 * share,
        "price_product_to_customer": _ratio(price, of_customer["customer_unit_price"]),
        "price_now_to_paid": _ratio(price, of_pair["pair_price_last"]),
        "is_preferred_category": (of_product["category"] == of_customer["preferred_category"]).astype(np.float64),
    }


def calendar(as_of_day: npt.ArrayLike) -> Made:
    """Features of `as_of` itself and of the label window that begins there, from epoch days."""
    as_of = np.atleast_1d(np.asarray(as_of_day, dtype=np.int64))
    week_day = (as_of + 3) % 7  # 1970-01-01 was a Thursday
    thursday = as_of - week_day + 3  # an ISO week belongs to the year of its Thursday
    year_day, middle = _day_of_year(as_of), _day_of_year(as_of + HORIZON_DAYS // 2)
    year_start = as_of - year_day
    christmas = _christmas(year_start)
    to_christmas = np.where(as_of <= christmas, christmas - as_of, _christmas(_next_year(year_start)) - as_of)
    opening = christmas - 85  # 1 October
    overlap = np.minimum(as_of + HORIZON_DAYS, christmas) - np.maximum(as_of, opening)
    return {
        "month": (_date(as_of).astype("datetime64[M]").astype(np.int64) % 12 + 1).astype(np.float64),
        "week_of_year": (_day_of_year(thursday) // 7 + 1).astype(np.float64),
        "day_of_week": week_day.astype(np.float64),
        "days_to_christmas": to_christmas.astype(np.float64),
        "christmas_season_share": np.maximum(overlap, 0) / HORIZON_DAYS,
        "year_sin": _SINE[year_day],
        "year_cos": _COSINE[year_day],
        "label_middle_sin": _SINE[middle],
        "label_middle_cos": _COSINE[middle],
    }


def raw(columns: Mapping[str, Any] | State, as_of_day: npt.ArrayLike) -> Made:
    """The newest purchase days one by one, as `SEQUENCES` names them (NaN beyond the last), and the description."""
    given = state(columns)
    as_of = _days(given, as_of_day)
    pair_days, customer_days = given.lists("pair_purchase_days"), given.lists("customer_purchase_days")
    known = pair_days.values < pair_days.spread(as_of)
    units, pair_days = given.lists("pair_purchase_quantities").only(known), pair_days.only(known)
    customer_days = customer_days.only(customer_days.values < customer_days.spread(as_of))
    made: Made = {}
    for number, (days, quantity) in enumerate(SEQUENCES["pair"]):
        made[days] = as_of - pair_days.newest(number)
        made[quantity] = units.newest(number)
    for number, (days,) in enumerate(SEQUENCES["customer"]):
        made[days] = as_of - customer_days.newest(number)
    return {**made, "description": given.texts("product_description")}


def _days(given: State, as_of_day: npt.ArrayLike) -> Ints:
    days = np.asarray(as_of_day, dtype=np.int64)
    return np.broadcast_to(days, given.rows) if days.ndim == 0 else days


def _within(ages: Ints, window: int) -> npt.NDArray[np.bool_]:
    return (ages > 0) & (ages <= window)


def _between(ages: Ints, youngest: int, oldest: int) -> npt.NDArray[np.bool_]:
    return (ages >= youngest) & (ages <= oldest)


def _decayed(ages: Ints, half_life: int) -> Floats:
    """Weight of each purchase: half after `half_life` days, nothing beyond the memory or not before `as_of`."""
    return _DECAY[half_life][np.clip(ages, 0, MEMORY_DAYS + 1)]


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
    """Quotient; NaN where `below` is 0 or either is not known."""
    found = np.full(np.broadcast_shapes(np.shape(above), np.shape(below)), np.nan)
    np.divide(above, below, out=found, where=np.asarray(below) != 0)
    return found


def _smoothed(seen: Floats, expected: Floats) -> Floats:
    """Seen against expected counts, one added to both: little evidence reads as no change."""
    return (seen + 1) / (expected + 1)


def _rate(repeats: Floats, purchases: Floats) -> Floats:
    return (repeats + PRIOR_RATE * PRIOR_WEIGHT) / (purchases + PRIOR_WEIGHT)


def _gaps(first: Floats, last: Floats, purchases: Floats, gap_squares: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (of the population) of the days between purchases; NaN for fewer than two."""
    gaps = np.where(purchases > 1, purchases - 1, np.nan)
    return (last - first) / gaps, _deviation(gap_squares, last - first, gaps)


def _deviation(squares: Floats, total: Floats, count: npt.NDArray[Any] | int) -> Floats:
    """Standard deviation of `count` values from the sum of their squares and their sum."""
    mean = _ratio(total, np.asarray(count, dtype=np.float64))
    variance = _ratio(squares, np.asarray(count, dtype=np.float64)) - mean * mean
    return np.sqrt(np.maximum(variance, 0.0))


def _trend(age_sums: Floats, total: Floats, window: int) -> Floats:
    """Least-squares slope, a day, of a daily series over the ages 1 to `window`; days without a row are 0."""
    covariance = age_sums - (window + 1) / 2 * total
    return -covariance / (window * (window * window - 1) / 12)


def _rhythm(days: Ragged, recency: Floats) -> tuple[Floats, Floats, Floats]:
    """From the gaps between a row's days: their mean, the share longer than the present one, and how likely it ends.

    The last is the share, of the gaps that were longer than the present one, that ended within 28 more days: an
    empirical hazard, drawn to one half by one observation.
    """
    same = days.rows[1:] == days.rows[:-1]
    rows, gaps = days.rows[1:][same], np.diff(days.values)[same]
    count = np.bincount(rows, minlength=len(days.lengths)).astype(np.float64)
    total = np.bincount(rows, weights=gaps, minlength=len(days.lengths))
    present = recency[rows]
    longer = np.bincount(rows, weights=gaps > present, minlength=len(days.lengths))
    ended = np.bincount(rows, weights=(gaps > present) & (gaps <= present + HORIZON_DAYS), minlength=len(days.lengths))
    known = ~np.isnan(recency)
    overdue = np.where(known, _ratio(longer, count), np.nan)
    return _ratio(total, count), overdue, np.where(known, (ended + 0.5) / (longer + 1), np.nan)


def _segment(recency: Floats, tenure: Floats, days_in_year: Floats) -> Texts:
    """Recency and frequency in words."""
    rules = [
        (np.isnan(recency), UNKNOWN),
        (recency > 180, "dormant"),
        ((recency > 90) & (days_in_year >= 3), "at_risk"),
        (recency > 90, "dormant"),
        (tenure <= 60, "new"),
        ((recency <= 30) & (days_in_year >= 8), "champion"),
        (days_in_year >= 4, "loyal"),
    ]
    return _first_true(rules, "promising")


def _frequency_tier(days_in_year: Floats) -> Texts:
    return _first_true([(days_in_year >= least, name) for least, name in FREQUENCY_TIERS], UNKNOWN)


def _price_tier(usual: Floats) -> Texts:
    return _first_true([(usual < below, name) for below, name in PRICE_TIERS], UNKNOWN)


def _first_true(rules: list[tuple[npt.NDArray[np.bool_], str]], otherwise: str) -> Texts:
    found = np.full(len(rules[0][0]), otherwise, dtype=object)
    for condition, name in reversed(rules):
        found[condition] = name
    return found


def _date(day: Ints) -> npt.NDArray[np.datetime64]:
    return day.astype("datetime64[D]")


def _day_of_year(day: Ints) -> Ints:
    """0 for 1 January."""
    return day - _date(day).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)


def _next_year(year_start: Ints) -> Ints:
    return (_date(year_start).astype("datetime64[Y]") + 1).astype("datetime64[D]").astype(np.int64)


def _christmas(year_start: Ints) -> Ints:
    """25 December of the year that begins on `year_start`: a week before the next year begins."""
    return _next_year(year_start) - 7
