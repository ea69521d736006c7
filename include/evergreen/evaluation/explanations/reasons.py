"""Reasons of a prediction in words that a merchandiser reads.

Many features say nearly the same ("last bought 12 days ago", "2 days before the usual gap ends"), so the reasons are
those of themes: the contributions of a theme's features are summed, and its sentence is made from the row's values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evergreen.features.registry import KNOWN

if TYPE_CHECKING:
    from evergreen.evaluation.explanations.attribution import Attribution

Row = Mapping[str, Any]
_DOCS = {feature.name: feature.doc for feature in KNOWN}


@dataclass(frozen=True)
class Reason:
    """One reason: words, what it adds to the log-odds, and the theme that it comes from."""

    text: str
    contribution: float
    theme: str

    @property
    def raises(self) -> bool:
        """Whether it makes the purchase likelier."""
        return self.contribution > 0

    def as_dict(self) -> dict[str, Any]:
        """JSON."""
        return asdict(self) | {"contribution": float(f"{self.contribution:.6g}"), "raises": self.raises}


def reasons(found: Attribution, rows: npt.NDArray[np.intp], most: int) -> list[list[Reason]]:
    """The strongest reasons of some rows of an attribution, strongest first; those that add nothing are left out."""
    themes = [theme_of(feature) for feature in found.features]
    names = list(dict.fromkeys(themes))
    places = np.array([names.index(theme) for theme in themes])
    sums = np.zeros((len(rows), len(names)))
    np.add.at(sums.T, places, found.values[rows].T)
    frame = found.frame.iloc[rows]
    given = {name: frame[name].tolist() for name in frame.columns if name in _DOCS or name in found.features}
    told = []
    for number, of_row in enumerate(sums):
        row = {name: values[number] for name, values in given.items()}
        order = np.argsort(-np.abs(of_row), kind="stable")[:most]
        told.append(
            [
                Reason(sentence(names[place], row), float(of_row[place]), names[place])
                for place in order
                if of_row[place]
            ]
        )
    return told


def theme_of(feature: str) -> str:
    """The theme of a feature; one that no theme knows is a theme of its own."""
    for theme, (patterns, _) in THEMES.items():
        if any(fnmatchcase(feature, pattern) for pattern in patterns):
            return theme
    return feature


def sentence(theme: str, row: Row) -> str:
    """The theme's sentence for a row's values; of a feature without a theme its description and value."""
    if theme in THEMES:
        return THEMES[theme][1](row)
    value = row.get(theme)
    shown = f"{value:.3g}" if isinstance(value, float | int) and value == value else str(value)
    return f"{_DOCS.get(theme, theme)}: {'unknown' if shown in ('nan', 'None') else shown}"


def _rhythm(row: Row) -> str:
    last, gap = _number(row, "pair_recency_days"), _number(row, "pair_gap_mean_days")
    ago = f"last {_days(last)} ago" if last is not None else ""
    if gap is not None:
        return _joined(f"bought every {_days(gap)}", ago)
    return f"bought once, {_days(last)} ago" if last is not None else "bought once"


def _habit(row: Row) -> str:
    times, share = _number(row, "pair_purchases"), _number(row, "pair_share_of_visits_365d")
    bought = f"bought {_times(times)} so far" if times is not None else "how often it was bought"
    return _joined(bought, f"at {share:.0%} of the visits of a year" if share is not None else "")


def _season(row: Row) -> str:
    own, rise = _number(row, "pair_season_purchases"), _number(row, "product_season_rise")
    if own:
        return "bought in these weeks last year too"
    if rise is not None and abs(rise - 1) >= 0.1:
        return f"the product sold {'more' if rise > 1 else 'less'} in these weeks last year than before them"
    return "season of the year"


def _price(row: Row) -> str:
    now = _number(row, "price_now_to_paid")
    if now is not None and abs(now - 1) >= 0.01:
        return f"costs {abs(now - 1):.0%} {'more' if now > 1 else 'less'} than last paid"
    return "costs what was last paid" if now is not None else "price"


def _quantity(row: Row) -> str:
    mean = _number(row, "pair_quantity_mean")
    return f"takes {_count(mean, 'unit', 'units')} at a time" if mean is not None else "quantity at a time"


def _visits(row: Row) -> str:
    last, gap = _number(row, "days_since_last_purchase"), _number(row, "customer_gap_mean_days")
    often = f"the customer shops every {_days(gap)}" if gap is not None else "the customer shopped once"
    return _joined(often, f"last {_days(last)} ago" if last is not None else "")


def _spend(row: Row) -> str:
    spend = _number(row, "customer_spend_365d")
    return f"the customer spent {spend:,.0f} in a year" if spend is not None else "what the customer spends"


def _loyalty(row: Row) -> str:
    share = _number(row, "customer_repeat_share_365d")
    if share is None:
        return "how much the customer buys again"
    return f"{_part(share)} of the customer's purchases are repeats"


def _demand(row: Row) -> str:
    buyers, momentum = _number(row, "product_buyers_28d"), _number(row, "product_momentum_28d")
    if buyers == 0:
        return "nobody bought the product in 28 days"
    sold = f"the product was bought {_times(buyers)} in 28 days" if buyers is not None else ""
    trend = ""
    if momentum is not None and abs(momentum - 1) >= 0.1:
        trend = "demand is rising" if momentum > 1 else "demand is falling"
    return _joined(sold, trend) or "demand for the product"


def _repeats(row: Row) -> str:
    share = _number(row, "product_repeat_share_365d")
    return f"{_part(share)} of the product's sales are repeats" if share is not None else "how many come back to it"


def _age(row: Row) -> str:
    age = _number(row, "product_age_days")
    return f"the product has been sold for {_days(age)}" if age is not None else "age of the product"


def _kind(row: Row) -> str:
    category = _word(row, "category")
    liked = ", the customer's favourite" if _number(row, "is_preferred_category") else ""
    return f"category {category}{liked}" if category else "kind of product"


def _who(row: Row) -> str:
    country, segment = _word(row, "country"), _word(row, "user_segment")
    return _joined(f"customer in {country}" if country else "", f"segment {segment}" if segment else "") or "customer"


def _taste(row: Row) -> str:
    affinity = _number(row, "pair_affinity")
    return f"affinity of the customer to the product {affinity:.2f}" if affinity is not None else "affinity"


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return None if value is None or isinstance(value, str) or not math.isfinite(value) else float(value)


def _word(row: Row, name: str) -> str:
    value = row.get(name)
    return value.replace("_", " ") if isinstance(value, str) and value != "unknown" else ""


def _days(number: float) -> str:
    return _count(number, "day", "days")


def _count(number: float, one: str, many: str) -> str:
    return f"{number:,.0f} {one if round(number) == 1 else many}"


def _times(number: float) -> str:
    return {1: "once", 2: "twice"}.get(round(number), f"{number:,.0f} times")


def _part(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "none"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


Sentence = Callable[[Row], str]
# The first theme with a pattern that fits takes the feature.
THEMES: dict[str, tuple[tuple[str, ...], Sentence]] = {
    "season": (
        (
            "*season*", "month", "week_of_year", "day_of_week", "days_to_christmas", "year_*", "label_middle_*",
        ),
        _season,
    ),
    "price": (("*price*",), _price),
    "rhythm": (
        (
            "pair_recency*", "pair_gap*", "pair_regularity", "pair_days_to_expected", "gap_pair_to_customer",
            "recency_pair_to_customer", "visits_since_pair_purchase", "pair_step_*_days",
        ),
        _rhythm,
    ),
    "quantity": (
        ("pair_quantity*", "pair_step_*_units", "pair_value*", "pair_share_of_spend", "product_units_per_line"),
        _quantity,
    ),
    "taste": (("pair_affinity",), _taste),
    "habit": (("pair_*", "expected_pair_purchases*"), _habit),
    "loyalty": (("customer_rep*", "customer_cancellation*", "customer_return*"), _loyalty),
    "spend": (("customer_spend*", "avg_purchase_value"), _spend),
    "visits": (
        (
            "customer_days*", "customer_decayed*", "customer_gap*", "customer_overdue*", "customer_due*",
            "customer_regularity", "customer_momentum*", "customer_tenure*", "customer_products*",
            "days_since_last_purchase", "total_purchases", "visit_rate*", "customer_step_*",
        ),
        _visits,
    ),
    "repeats": (("product_rep*", "product_purchases_per_customer", "product_return*"), _repeats),
    "age": (("product_age_days", "product_is_new"), _age),
    "demand": (
        ("product_recency*", "product_buyers*", "product_sales*", "product_momentum*"),
        _demand,
    ),
    "kind": (("text_*", "description", "category", "preferred_category", "is_preferred_category"), _kind),
    "customer": (("country", "user_segment", "purchase_frequency_tier"), _who),
}  # fmt: skip
