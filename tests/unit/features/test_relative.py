"""The time-relative module against plain Python, row by row, and against itself in other shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.features import relative
from evergreen.features.registry import CATEGORICAL, FEATURES, NAMES, SEQUENCES
from evergreen.features.state import COLUMNS
from evergreen.lake.schemas import ARROW_KINDS
from tests.unit.features.histories import (
    EPOCH,
    FIRST,
    PRODUCTS,
    expected_customer,
    expected_pair,
    expected_product,
    history,
)

NAN = math.nan
AS_OF = FIRST + timedelta(days=440)
TODAY = (AS_OF - EPOCH).days


def stored_rows(seed: int, as_of: date = AS_OF) -> list[dict[str, Any]]:
    """The stored columns of all pairs of a history as of a day; None for what a join does not find."""
    lines = [line for line in history(seed, days=440, a_day=5, sparse=11) if line.day < as_of]
    found = []
    for customer in ("C1", "C2", "C3", "nobody"):
        for product in PRODUCTS:
            days = [line.day for line in lines if line.bought and (line.customer, line.product) == (customer, product)]
            parts = [
                expected_pair(lines, customer, product, max(days)) if days else None,
                expected_customer(lines, customer, as_of),
                expected_product(lines, product, as_of),
            ]
            row: dict[str, Any] = dict.fromkeys(COLUMNS)
            for part in parts:
                row |= part or {}
            found.append(row)
    return found


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in COLUMNS}


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return list(a) == list(b) and all(
        np.array_equal(a[name], b[name]) if a[name].dtype == object else a[name].tobytes() == b[name].tobytes()
        for name in a
    )


def ratio(above: float, below: float) -> float:
    return NAN if not below or math.isnan(below) or math.isnan(above) else above / below


def deviation(values: list[int]) -> float:
    return float(np.std(values))


def slope(by_age: Mapping[int, float], window: int) -> float:
    """Least squares over the days of the window, oldest first."""
    series = [by_age.get(age, 0.0) for age in range(window, 0, -1)]
    return float(np.polyfit(np.arange(window), series, 1)[0])


def oracle(row: dict[str, Any], today: int) -> dict[str, Any]:
    """A good part of the features of one row by their definitions, in plain Python."""

    def number(name: str) -> float:
        value = row[name]
        default = COLUMNS[name].default
        return (NAN if default is None else float(default)) if value is None else float(value)

    days, units = row["pair_purchase_days"] or [], row["pair_purchase_quantities"] or []
    visits = row["customer_purchase_days"] or []
    recency, visited = today - number("pair_last_purchase_day"), today - number("customer_last_purchase_day")
    total, visit_total = number("pair_total_purchases"), number("customer_total_purchases")
    gap = ratio(number("pair_last_purchase_day") - number("pair_first_purchase_day"), total - 1 if total > 1 else NAN)
    visit_span = number("customer_last_purchase_day") - number("customer_first_purchase_day")
    visit_gap = ratio(visit_span, visit_total - 1 if visit_total > 1 else NAN)
    past_gaps = [b - a for a, b in itertools.pairwise(visits)]
    longer = [g for g in past_gaps if g > visited]
    usual = ratio(number("product_amount_minor_365d") / 100, number("product_quantity_365d"))
    price = number("product_last_price_minor") / 100
    lines = {w: number(f"product_lines_{w}d") for w in (7, 28, 90, 365)}
    age = today - number("product_first_day")
    season = (number("product_season_lines") + 1) / (lines[365] * 28 / 365 + 1) if age > 351 else NAN
    decayed_180 = sum(0.5 ** ((today - d) / 180) for d in days if today - d <= 400)
    remembered = max(number("pair_first_purchase_day"), today - 400)
    share = ratio(sum(today - d <= 365 for d in days), number("customer_purchases_365d"))
    gaps = [b - a for a, b in itertools.pairwise(days)]
    deviations = {
        "pair_gap_std_days": deviation(gaps) if gaps else NAN,
        "pair_quantity_std": deviation(units) if units else NAN,
    }
    return {
        **(deviations if len(days) == total else {}),  # else the list has forgotten days that the sums know
        "pair_recency_days": recency,
        "pair_purchases_90d": float(sum(today - d <= 90 for d in days)),
        "pair_decayed_14d": sum(0.5 ** ((today - d) / 14) for d in days if today - d <= 400),
        "pair_gap_mean_days": gap,
        "pair_gap_share_elapsed": ratio(recency, gap),
        "pair_days_to_expected": gap - recency,
        "pair_season_purchases": float(sum(today - 365 <= d < today - 337 for d in days)),
        "pair_season_nearby": float(sum(today - 379 <= d < today - 323 for d in days)),
        "pair_quantity_365d": float(sum(q for d, q in zip(days, units, strict=True) if today - d <= 365)),
        "pair_price_last_to_usual": ratio(
            number("pair_last_price_minor") / 100,
            ratio(number("pair_total_amount_minor") / 100, number("pair_total_quantity")),
        ),
        "days_since_last_purchase": visited,
        "avg_purchase_value": ratio(number("customer_total_amount_minor") / 100, visit_total),
        "customer_decayed_90d": sum(0.5 ** ((today - d) / 90) for d in visits if today - d <= 400),
        "customer_gap_share_elapsed": ratio(visited, visit_gap),
        "customer_gap_recent_mean_days": ratio(sum(past_gaps), len(past_gaps)),
        "customer_overdue_share": ratio(len(longer), len(past_gaps)),
        "customer_due_share": NAN
        if math.isnan(visited)
        else (sum(g <= visited + 28 for g in longer) + 0.5) / (len(longer) + 1),
        "customer_repurchase_rate": (number("customer_closed_repeats") + 1.2)
        / (number("customer_closed_pair_days") + 20),
        "customer_momentum_90d": (number("customer_purchases_90d") + 1)
        / (number("customer_purchases_365d") * 90 / 365 + 1),
        "product_momentum_28d": (lines[28] + 1) / (lines[90] * 28 / 90 + 1),
        "product_season_index": season,
        "product_is_new": NAN if math.isnan(age) else float(age <= 90),
        "product_price_last_to_usual": ratio(price, usual),
        "visits_since_pair_purchase": NAN
        if math.isnan(recency)
        else float(sum(v > number("pair_last_purchase_day") for v in visits)),
        "pair_share_of_visits_365d": share,
        "pair_share_of_visits_since_first": ratio(
            sum(d >= remembered for d in days), sum(v >= remembered for v in visits)
        ),
        "recency_pair_to_customer": ratio(recency + 1, visited + 1),
        "pair_rate_by_season": decayed_180 * season,
        "expected_pair_purchases_28d": number("customer_purchases_90d") * 28 / 90 * share,
        "price_now_to_paid": ratio(price, number("pair_last_price_minor") / 100),
        "is_preferred_category": float(
            (row["product_category"] or "unknown") == (row["customer_preferred_category"] or "unknown")
        ),
    }


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("later", [0, 40], ids=["at the snapshot", "asked later"])
def test_features_are_what_their_definitions_say(seed: int, later: int) -> None:
    rows = stored_rows(seed)
    made = relative.features(columns_of(rows), TODAY + later)
    for place, row in enumerate(rows):
        for name, value in oracle(row, TODAY + later).items():
            assert made[name][place] == pytest.approx(value, rel=1e-12, abs=1e-9, nan_ok=True), (name, place)


def test_trend_and_deviation_are_those_of_the_daily_series() -> None:
    lines = history(3, days=440, a_day=6, sparse=2)
    made = relative.features(columns_of(_one(lines)), TODAY)
    for window in (7, 28, 90):
        sales = {age: 0.0 for age in range(1, window + 1)}
        for line in lines:
            if line.product == "P1" and line.sold and 0 < TODAY - line.number <= window:
                sales[TODAY - line.number] += 1
        assert made[f"product_sales_trend_{window}d"][0] == pytest.approx(slope(sales, window))
        assert made[f"product_sales_mean_{window}d"][0] == pytest.approx(np.mean(list(sales.values())))
        assert made[f"product_sales_std_{window}d"][0] == pytest.approx(np.std(list(sales.values())))


def _one(lines: list[Any]) -> list[dict[str, Any]]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    return [row | (expected_product(lines, "P1", AS_OF) or {})]


def test_one_row_and_many_and_any_order_give_the_same_bytes() -> None:
    rows = stored_rows(4) * 50
    whole = relative.features(columns_of(rows), np.full(len(rows), TODAY))
    for place in range(16):
        alone = relative.features(columns_of([rows[place]]), TODAY)
        assert same(alone, {name: values[place : place + 1] for name, values in whole.items()})
    shuffled = np.random.default_rng(0).permutation(len(rows))
    other = relative.features(columns_of([rows[i] for i in shuffled]), TODAY)
    assert same(other, {name: values[shuffled] for name, values in whole.items()})


def test_arrow_lists_objects_and_floats_give_the_same_bytes() -> None:
    rows = stored_rows(5)
    columns = columns_of(rows)
    plain = relative.features(columns, TODAY)
    arrow = {name: pa.chunked_array([pa.array(v, ARROW_KINDS[COLUMNS[name].kind])]) for name, v in columns.items()}
    assert same(plain, relative.features(relative.state(arrow), TODAY))
    sliced = {name: pa.concat_arrays([v.chunk(0), v.chunk(0)]).slice(len(rows)) for name, v in arrow.items()}
    assert same(plain, relative.features(sliced, TODAY))
    loose: dict[str, Any] = {}
    for name, values in columns.items():
        loose[name] = np.empty(len(values), dtype=object)
        if COLUMNS[name].kind == "int64":  # as pandas reads a join that did not find all
            loose[name] = np.array([NAN if v is None else v for v in values], dtype=np.float64)
        else:
            loose[name][:] = [np.array(v) if isinstance(v, list) else v for v in values]
    assert same(plain, relative.features(loose, np.full(len(rows), TODAY)))


def test_nothing_at_or_after_as_of_counts() -> None:
    rows = stored_rows(6)
    planted = [
        {
            **row,
            "pair_purchase_days": [*(row["pair_purchase_days"] or []), TODAY, TODAY + 1],
            "pair_purchase_quantities": [*(row["pair_purchase_quantities"] or []), 9, 9],
        }
        for row in rows
    ]
    assert same(relative.features(columns_of(rows), TODAY), relative.features(columns_of(planted), TODAY))


def test_the_newest_purchases_stand_one_by_one() -> None:
    rows = stored_rows(7)
    made = relative.raw(columns_of(rows), TODAY)
    for place, row in enumerate(rows):
        days, units = row["pair_purchase_days"] or [], row["pair_purchase_quantities"] or []
        for number, (day, unit) in enumerate(SEQUENCES["pair"], 1):
            seen = [made[day][place], made[unit][place]]
            wanted = [TODAY - days[-number], units[-number]] if number <= len(days) else [NAN, NAN]
            np.testing.assert_array_equal(seen, wanted)
        visits = row["customer_purchase_days"] or []
        for number, (day,) in enumerate(SEQUENCES["customer"], 1):
            np.testing.assert_array_equal(made[day][place], TODAY - visits[-number] if number <= len(visits) else NAN)
    assert made["description"].tolist() == [row["product_description"] or "unknown" for row in rows]


def test_a_missing_entity_reads_as_the_defaults_say() -> None:
    made = relative.features({key: [None] for key in COLUMNS}, TODAY)
    assert list(made) == list(NAMES)
    for feature in FEATURES:
        (value,) = made[feature.name]
        assert isinstance(value, str) if feature.kind == "string" else isinstance(value, float)
    assert math.isnan(made["days_since_last_purchase"][0])
    assert made["pair_purchases"][0] == 0
    assert {made[name][0] for name in CATEGORICAL} == {"unknown"}


def test_no_rows_give_no_rows() -> None:
    assert all(len(values) == 0 for values in relative.features({name: [] for name in COLUMNS}, []).values())


def test_a_missing_column_is_named() -> None:
    columns = columns_of(stored_rows(1))
    del columns["pair_total_lines"], columns["pair_max_gap_days"]
    relative.features(columns, TODAY)  # stored, not read
    del columns["pair_last_purchase_day"]
    with pytest.raises(KeyError, match="column 'pair_last_purchase_day' is missing"):
        relative.features(columns, TODAY)


def test_groups_are_the_parts_of_the_whole() -> None:
    columns = columns_of(stored_rows(2))
    parts = {
        **relative.pair(columns, TODAY),
        **relative.customer(columns, TODAY),
        **relative.product(columns, TODAY),
        **relative.interactions(columns, TODAY),
        **relative.calendar(np.full(16, TODAY)),
        **relative.raw(columns, TODAY),
    }
    assert same({name: parts[name] for name in NAMES}, relative.features(columns, TODAY))
    assert set(parts) == set(NAMES)


@given(st.dates(date(2000, 1, 1), date(2060, 12, 31)))
def test_the_calendar_is_that_of_datetime(day: date) -> None:
    made = {name: float(values[0]) for name, values in relative.calendar((day - EPOCH).days).items()}
    christmas = next(c for year in (day.year, day.year + 1) if (c := date(year, 12, 25)) >= day)
    season = [day + timedelta(days=n) for n in range(28)]
    assert made["month"] == day.month
    assert made["week_of_year"] == day.isocalendar().week
    assert made["day_of_week"] == day.weekday()
    assert made["days_to_christmas"] == (christmas - day).days
    assert made["christmas_season_share"] == sum((10, 1) <= (d.month, d.day) <= (12, 24) for d in season) / 28
    angle = 2 * math.pi * (day.timetuple().tm_yday - 1) / 365.25
    assert (made["year_sin"], made["year_cos"]) == (math.sin(angle), math.cos(angle))
    middle = 2 * math.pi * ((day + timedelta(days=14)).timetuple().tm_yday - 1) / 365.25
    assert (made["label_middle_sin"], made["label_middle_cos"]) == (math.sin(middle), math.cos(middle))


@pytest.mark.parametrize(
    ("recency", "tenure", "days", "segment"),
    [
        (10, 300, 12, "champion"),
        (40, 300, 12, "loyal"),
        (10, 300, 2, "promising"),
        (10, 30, 12, "new"),
        (120, 300, 3, "at_risk"),
        (120, 300, 2, "dormant"),
        (181, 400, 20, "dormant"),
    ],
)
def test_segments(recency: int, tenure: int, days: int, segment: str) -> None:
    columns: dict[str, Any] = {key: [None] for key in COLUMNS}
    columns |= {
        "customer_last_purchase_day": [TODAY - recency],
        "customer_first_purchase_day": [TODAY - tenure],
        "customer_purchases_365d": [days],
    }
    assert relative.customer(columns, TODAY)["user_segment"].tolist() == [segment]


@pytest.mark.parametrize(
    ("days", "tier"), [(40, "weekly"), (10, "monthly"), (4, "quarterly"), (1, "rare"), (0, "unknown")]
)
def test_frequency_tiers(days: int, tier: str) -> None:
    columns = {key: [None] for key in COLUMNS} | {"customer_purchases_365d": [days]}
    assert relative.customer(columns, TODAY)["purchase_frequency_tier"].tolist() == [tier]


@pytest.mark.parametrize(
    ("amount_minor", "tier"), [(99, "budget"), (100, "low"), (499, "mid"), (999, "high"), (1000, "premium")]
)
def test_price_tiers(amount_minor: int, tier: str) -> None:
    found = {"product_amount_minor_365d": [amount_minor], "product_quantity_365d": [1]}
    assert relative.product({key: [None] for key in COLUMNS} | found, TODAY)["price_tier"].tolist() == [tier]
