"""Random purchase histories, and what their feature tables must hold by plain Python: the oracle of the Spark jobs."""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from evergreen.lake import Lake, begin, publish, release, seal, stage_days
from evergreen.lake.schemas import TRANSACTIONS
from evergreen.lake.staging import new_attempt

EPOCH = date(1970, 1, 1)
FIRST = date(2023, 1, 2)
PRODUCTS = {
    "P1": "RED RETROSPOT LUNCH BAG",
    "P2": "WHITE HANGING HEART T-LIGHT HOLDER",
    "P3": "CHRISTMAS CARD SET",
    "P4": "SOMETHING ELSE",
}


@dataclass(frozen=True)
class Line:
    """A line of transactions. A quantity below 0 is a return, an invoice with C a cancellation."""

    day: date
    customer: str | None
    product: str
    quantity: int
    price_minor: int
    minute: int = 0
    cancelled: bool = False
    country: str = "UK"

    @property
    def sold(self) -> bool:
        return self.quantity > 0 and self.price_minor > 0 and not self.cancelled

    @property
    def bought(self) -> bool:
        return self.sold and self.customer is not None

    @property
    def number(self) -> int:
        return (self.day - EPOCH).days

    def row(self) -> dict[str, Any]:
        return {
            "invoice_id": f"{'C' if self.cancelled else ''}{self.number}",
            "product_id": self.product,
            "description": PRODUCTS[self.product],
            "quantity": self.quantity,
            "event_time": datetime.combine(self.day, time(8 + self.minute // 60, self.minute % 60), UTC),
            "unit_price": self.price_minor / 100,
            "amount_minor": self.quantity * self.price_minor,
            "customer_id": self.customer,
            "country": self.country,
            "is_cancellation": self.cancelled,
            "is_return": self.quantity < 0,
            "is_product": True,
            "is_purchase": self.bought,
            "extra": None,
        }


def history(seed: int, days: int, a_day: int = 4, sparse: int = 1) -> list[Line]:
    """Lines of `days` days from FIRST on, up to `a_day` on each `sparse`-th day."""
    dice = random.Random(seed)
    lines = []
    for offset in range(0, days, sparse):
        for _ in range(dice.randint(0, a_day)):
            cancelled = dice.random() < 0.08
            lines.append(
                Line(
                    FIRST + timedelta(days=offset),
                    dice.choice(["C1", "C2", "C3", None]),
                    dice.choice(list(PRODUCTS)),
                    -dice.randint(1, 5) if cancelled or dice.random() < 0.05 else dice.randint(1, 40),
                    dice.choice([0, 125, 250, 999]),
                    dice.randint(0, 300),
                    cancelled,
                    dice.choice(["UK", "France"]),
                )
            )
    return lines


def publish_lines(lake: Lake, lines: Sequence[Line], last: date, first: date = FIRST) -> None:
    """Makes `transactions` of `first` to `last` hold these lines, and releases them."""
    attempt = new_attempt()
    begin(lake, "transactions", attempt)
    days = sorted({line.day for line in lines if first <= line.day <= last})
    rows = ([line.row() for line in lines if line.day == day] for day in days)
    tables = (pa.Table.from_pylist(found, schema=TRANSACTIONS.file_schema) for found in rows)
    stage_days(lake, "transactions", attempt, zip(days, tables, strict=True))
    staged = seal(lake, "transactions", attempt, start=first, end=last, transform="test/1", mark_empty=True)
    version = publish(lake, staged).version
    assert version is not None
    release(lake, "transactions", day=last, digest=f"{version}", versions={"transactions": version}, inputs={})


def expected_pair(lines: Sequence[Line], customer: str, product: str, day: date) -> dict[str, Any]:
    """State of a pair after a day on which the customer bought the product."""
    mine = [line for line in lines if line.bought and (line.customer, line.product) == (customer, product)]
    mine = sorted(
        (line for line in mine if line.day <= day), key=lambda line: (line.day, line.minute, line.price_minor)
    )
    units: Counter[int] = Counter()
    for line in mine:
        units[line.number] += line.quantity
    days = sorted(units)
    gaps = [b - a for a, b in itertools.pairwise(days)]
    recent = [number for number in days if number > days[-1] - 400]
    prices = [line.price_minor for line in mine]
    return {
        "pair_purchase_days": recent,
        "pair_purchase_quantities": [units[number] for number in recent],
        "pair_total_purchases": len(days),
        "pair_total_lines": len(mine),
        "pair_total_quantity": sum(units.values()),
        "pair_total_amount_minor": sum(line.quantity * line.price_minor for line in mine),
        "pair_sum_quantity_squares": sum(value**2 for value in units.values()),
        "pair_first_purchase_day": days[0],
        "pair_last_purchase_day": days[-1],
        "pair_sum_gap_squares": sum(gap**2 for gap in gaps),
        "pair_max_gap_days": max(gaps, default=0),
        "pair_last_gap_days": gaps[-1] if gaps else 0,
        "pair_last_price_minor": prices[-1],
        "pair_min_price_minor": min(prices),
        "pair_max_price_minor": max(prices),
    }


def _between(lines: Sequence[Line], as_of: date, oldest: int, youngest: int = 1) -> list[Line]:
    return [line for line in lines if youngest <= (as_of - line.day).days <= oldest]


def _gap(lines: Sequence[Line], day: int, customer: str, product: str) -> int | None:
    """Days since the pair's purchase before `day`."""
    before = [
        line.number
        for line in lines
        if line.bought and line.number < day and (line.customer, line.product) == (customer, product)
    ]
    return day - max(before) if before else None


def _pair_days(lines: Sequence[Line]) -> set[tuple[int, str, str]]:
    return {(line.number, str(line.customer), line.product) for line in lines if line.bought}


def expected_customer(lines: Sequence[Line], customer: str, as_of: date) -> dict[str, Any] | None:
    """Snapshot of a customer, None where it is not active."""
    everything = [line for line in lines if line.customer == customer and line.day < as_of]
    mine = [line for line in everything if line.bought]
    if not _between(mine, as_of, 365):
        return None
    days = sorted({line.number for line in mine})
    gaps = [b - a for a, b in itertools.pairwise(days)]
    today = (as_of - EPOCH).days

    def windows(name: str, value: Any, sizes: Sequence[int] = (7, 28, 90, 365)) -> dict[str, Any]:
        return {f"customer_{name}_{w}d": value(_between(mine, as_of, w)) for w in sizes}

    def amounts(found: Sequence[Line]) -> Counter[int]:
        by_day: Counter[int] = Counter()
        for line in found:
            by_day[line.number] += line.quantity * line.price_minor
        return by_day

    def repeats(found: Sequence[Line], within: int = 10_000) -> int:
        gaps = (_gap(lines, *key) for key in _pair_days(found))
        return sum(1 for gap in gaps if gap is not None and gap <= within)

    season = _between(mine, as_of, 365, 338)
    newest = max(mine, key=lambda line: (line.day, line.minute, line.country))
    votes = Counter(category_of(PRODUCTS[line.product]) for line in _between(mine, as_of, 365))
    return {
        "customer_country": newest.country,
        "customer_preferred_category": min(votes, key=lambda name: (-votes[name], name)),
        "customer_purchase_days": [day for day in days if day >= today - 400],
        "customer_total_purchases": len(days),
        "customer_total_lines": len(mine),
        "customer_total_quantity": sum(line.quantity for line in mine),
        "customer_total_amount_minor": sum(amounts(mine).values()),
        "customer_total_products": len({line.product for line in mine}),
        "customer_first_purchase_day": days[0],
        "customer_last_purchase_day": days[-1],
        "customer_sum_gap_squares": sum(gap**2 for gap in gaps),
        "customer_max_gap_days": max(gaps, default=0),
        "customer_last_gap_days": gaps[-1] if gaps else 0,
        **windows("purchases", lambda found: len({line.number for line in found})),
        **windows("lines", len),
        **windows("quantity", lambda found: sum(line.quantity for line in found)),
        **windows("amount_minor", lambda found: sum(amounts(found).values())),
        **windows("amount_squares", lambda found: sum((v // 100) ** 2 for v in amounts(found).values()), (7, 28, 90)),
        **windows("amount_ages", lambda found: sum((today - d) * v for d, v in amounts(found).items()), (7, 28, 90)),
        **windows("pair_days", lambda found: len(_pair_days(found))),
        **windows("repeats", repeats),
        "customer_closed_repeats": repeats(_between(mine, as_of, 180), 28),
        "customer_closed_pair_days": len(_pair_days(_between(mine, as_of, 208, 29))),
        "customer_season_purchases": len({line.number for line in season}),
        "customer_season_lines": len(season),
        "customer_season_amount_minor": sum(amounts(season).values()),
        **{f"customer_lag_{lag}d": sum(amounts(_between(mine, as_of, lag, lag)).values()) for lag in (1, 7, 28)},
        "customer_cancellations_365d": sum(line.cancelled for line in _between(everything, as_of, 365)),
        "customer_returns_365d": sum(line.quantity < 0 for line in _between(everything, as_of, 365)),
    }


def expected_product(lines: Sequence[Line], product: str, as_of: date) -> dict[str, Any] | None:
    """Snapshot of a product, None where it is not active."""
    everything = [line for line in lines if line.product == product and line.day < as_of]
    mine = [line for line in everything if line.sold]
    if not _between(mine, as_of, 365):
        return None
    today = (as_of - EPOCH).days

    def windows(name: str, value: Any, sizes: Sequence[int] = (7, 28, 90, 365)) -> dict[str, Any]:
        return {f"product_{name}_{w}d": value(_between(mine, as_of, w)) for w in sizes}

    def by_day(found: Sequence[Line]) -> Counter[int]:
        return Counter(line.number for line in found)

    def gaps(found: Sequence[Line]) -> list[int]:
        return [gap for gap in (_gap(lines, *key) for key in _pair_days(found)) if gap is not None]

    year = _between(mine, as_of, 365)
    newest = max(mine, key=lambda line: (line.day, line.minute, line.price_minor))
    words = [word for word in re.split("[^A-Z0-9]+", PRODUCTS[product]) if word]
    grams = words + [f"{a} {b}" for a, b in itertools.pairwise(words)]
    buckets = Counter(zlib.crc32(gram.encode()) % 8 for gram in grams)
    return {
        "product_description": PRODUCTS[product],
        "product_category": category_of(PRODUCTS[product]),
        **{f"product_text_hash_{i}": buckets[i] for i in range(8)},
        "product_total_pair_days": len(_pair_days(mine)),
        "product_total_customers": len({line.customer for line in mine} - {None}),
        "product_total_lines": len(mine),
        "product_total_quantity": sum(line.quantity for line in mine),
        "product_total_amount_minor": sum(line.quantity * line.price_minor for line in mine),
        "product_first_day": min(line.number for line in mine),
        "product_last_day": max(line.number for line in mine),
        **windows("days", lambda found: len(by_day(found))),
        **windows("pair_days", lambda found: len(_pair_days(found))),
        **windows("lines", len),
        **windows("quantity", lambda found: sum(line.quantity for line in found)),
        **windows("amount_minor", lambda found: sum(line.quantity * line.price_minor for line in found)),
        **windows("line_squares", lambda found: sum(n**2 for n in by_day(found).values()), (7, 28, 90)),
        **windows("line_ages", lambda found: sum(today - line.number for line in found), (7, 28, 90)),
        **windows("repeats", lambda found: len(gaps(found))),
        "product_repeat_gaps_365d": sum(gaps(year)),
        "product_closed_repeats": sum(gap <= 28 for gap in gaps(_between(mine, as_of, 180))),
        "product_closed_pair_days": len(_pair_days(_between(mine, as_of, 208, 29))),
        "product_season_lines": len(_between(mine, as_of, 365, 338)),
        "product_season_pair_days": len(_pair_days(_between(mine, as_of, 365, 338))),
        "product_season_before_lines": len(_between(mine, as_of, 393, 366)),
        **{f"product_lag_{lag}d": len(_between(mine, as_of, lag, lag)) for lag in (1, 7, 28)},
        "product_last_price_minor": newest.price_minor,
        "product_min_price_minor_365d": min(line.price_minor for line in year),
        "product_max_price_minor_365d": max(line.price_minor for line in year),
        "product_cancellations_365d": sum(line.cancelled for line in _between(everything, as_of, 365)),
        "product_returns_365d": sum(line.quantity < 0 for line in _between(everything, as_of, 365)),
    }


def category_of(description: str) -> str:
    """By the last word of the four descriptions that has a category."""
    return {"RED RETROSPOT LUNCH BAG": "bags", "CHRISTMAS CARD SET": "paper_gifts", "SOMETHING ELSE": "other"}.get(
        description, "candles"
    )
