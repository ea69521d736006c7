"""The model features, in the order in which models see them. `evergreen.features.relative` computes each of them."""

from __future__ import annotations

from evergreen.features.schema import LAGS, TEXT_BUCKETS, TREND_WINDOWS, WINDOWS, Feature

PAIR_HALF_LIVES = (14, 60, 180)
CUSTOMER_HALF_LIVES = (30, 90, 180)


def _number(group: str, name: str, doc: str) -> Feature:
    return Feature(name, "float64", group, doc)


def _label(group: str, name: str, doc: str) -> Feature:
    return Feature(name, "string", group, doc)


_PAIR = (
    _number("pair", "pair_recency_days", "Days since the pair's newest purchase"),
    _number("pair", "pair_tenure_days", "Days since the pair's first purchase"),
    _number("pair", "pair_purchases", "Days on which the customer bought the product"),
    *(_number("pair", f"pair_purchases_{w}d", f"Purchase days of the pair in {w} days") for w in WINDOWS[1:]),
    *(
        _number("pair", f"pair_decayed_{h}d", f"Purchase days of the pair, each worth half after {h} days")
        for h in PAIR_HALF_LIVES
    ),
    _number("pair", "pair_rate_per_28d", "Purchase days of the pair per 28 days of its tenure"),
    _number("pair", "pair_gap_mean_days", "Mean days between purchases; missing after one purchase"),
    _number("pair", "pair_gap_std_days", "Standard deviation of the days between purchases"),
    _number("pair", "pair_gap_last_days", "Days between the newest two purchases"),
    _number("pair", "pair_gap_share_elapsed", "Days since the newest purchase / mean days between purchases"),
    _number("pair", "pair_regularity", "Standard deviation / mean of the days between purchases"),
    _number("pair", "pair_days_to_expected", "Newest purchase + mean gap - as_of; negative: overdue"),
    _number("pair", "pair_season_purchases", "Purchase days in last year's label window [as_of - 365, as_of - 337)"),
    _number("pair", "pair_season_nearby", "Purchase days in [as_of - 379, as_of - 323): two weeks more either side"),
    _number("pair", "pair_quantity_mean", "Mean units a purchase day"),
    _number("pair", "pair_quantity_std", "Standard deviation of the units a purchase day"),
    _number("pair", "pair_quantity_365d", "Units bought in 365 days"),
    _number("pair", "pair_value_mean", "Mean amount a purchase day, currency units"),
    _number("pair", "pair_price_last", "Unit price of the pair's newest line, currency units"),
    _number("pair", "pair_price_last_to_usual", "Newest unit price / the pair's mean unit price"),
)

_CUSTOMER = (
    _number("customer", "days_since_last_purchase", "Days since the customer bought anything"),
    _number("customer", "total_purchases", "Days on which the customer bought anything"),
    _number("customer", "avg_purchase_value", "Mean amount of a purchase day, currency units"),
    _number("customer", "customer_tenure_days", "Days since the customer's first purchase"),
    *(_number("customer", f"customer_days_{w}d", f"Purchase days of the customer in {w} days") for w in WINDOWS),
    *(
        _number("customer", f"customer_decayed_{h}d", f"Purchase days of the customer, each worth half after {h} days")
        for h in CUSTOMER_HALF_LIVES
    ),
    _number("customer", "customer_gap_mean_days", "Mean days between purchase days; missing after one"),
    _number("customer", "customer_gap_last_days", "Days between the newest two purchase days"),
    _number("customer", "customer_gap_share_elapsed", "Days since the newest purchase / mean days between purchases"),
    _number("customer", "customer_gap_recent_mean_days", "Mean days between the purchase days of 400 days"),
    _number(
        "customer", "customer_overdue_share", "Share of past gaps (400 days) that were longer than the present one"
    ),
    _number(
        "customer", "customer_due_share", "Of the past gaps longer than the present, share that ended in 28 more days"
    ),
    _number("customer", "customer_regularity", "Standard deviation / mean of the days between purchase days"),
    _number("customer", "customer_products", "Different products ever bought"),
    _number("customer", "customer_products_per_day_365d", "Different products a purchase day in 365 days"),
    _number("customer", "customer_spend_365d", "Amount in 365 days, currency units"),
    *(_number("customer", f"customer_spend_mean_{w}d", f"Mean amount a day over {w} days") for w in TREND_WINDOWS[1:]),
    *(
        _number("customer", f"customer_spend_std_{w}d", f"Deviation of the day's amount, {w} days")
        for w in TREND_WINDOWS[1:]
    ),
    *(
        _number("customer", f"customer_spend_trend_{w}d", f"Slope of the day's amount over {w} days, units a day")
        for w in TREND_WINDOWS[1:]
    ),
    _number("customer", "customer_momentum_90d", "Purchase days a day in 90 days / in 365 days, smoothed"),
    _number("customer", "customer_repeat_share_365d", "Share of (product, day) purchases that repeat a product"),
    _number("customer", "customer_repurchase_rate", "Repeats within 28 days a purchase, closed windows, smoothed"),
    _number("customer", "customer_season_days", "Purchase days in last year's label window"),
    *(_number("customer", f"customer_spend_lag_{lag}d", f"Amount on day as_of - {lag}") for lag in LAGS),
    _number("customer", "customer_unit_price", "Mean unit price paid in 365 days, currency units"),
    _number("customer", "customer_cancellation_share", "Cancelled lines / (purchase lines + 1) in 365 days"),
    _number("customer", "customer_return_share", "Returned lines / (purchase lines + 1) in 365 days"),
    _label("customer", "country", "Country of the customer's newest purchase"),
    _label("customer", "preferred_category", "Category that the customer buys most"),
    _label("customer", "user_segment", "champion, loyal, promising, new, at_risk, dormant or unknown"),
    _label("customer", "purchase_frequency_tier", "weekly, monthly, quarterly, rare or unknown, by days in 365"),
)

_PRODUCT = (
    _number("product", "product_recency_days", "Days since the product was sold"),
    _number("product", "product_age_days", "Days since the product was first sold"),
    _number("product", "product_is_new", "1 where first sold within 90 days, else 0"),
    *(_number("product", f"product_buyers_{w}d", f"(customer, day) purchases in {w} days") for w in WINDOWS[1:]),
    _number("product", "product_sales_365d", "Lines sold in 365 days"),
    *(_number("product", f"product_sales_mean_{w}d", f"Mean lines a day over {w} days") for w in TREND_WINDOWS),
    *(_number("product", f"product_sales_std_{w}d", f"Deviation of the day's lines, {w} days") for w in TREND_WINDOWS),
    *(_number("product", f"product_sales_trend_{w}d", f"Slope of the day's lines, {w} days") for w in TREND_WINDOWS),
    _number("product", "product_momentum_7d", "Lines a day in 7 days / in 28 days, smoothed"),
    _number("product", "product_momentum_28d", "Lines a day in 28 days / in 90 days, smoothed"),
    _number("product", "product_momentum_90d", "Lines a day in 90 days / in 365 days, smoothed"),
    _number(
        "product", "product_season_index", "Lines in last year's label window / a 28-day share of 365 days, smoothed"
    ),
    _number("product", "product_season_rise", "Lines in last year's label window / the 28 days before it, smoothed"),
    _number("product", "product_season_buyers", "(customer, day) purchases in last year's label window"),
    *(_number("product", f"product_sales_lag_{lag}d", f"Lines sold on day as_of - {lag}") for lag in LAGS),
    _number("product", "product_repeat_share_365d", "Share of (customer, day) purchases that are repeats"),
    _number("product", "product_repeat_gap_days", "Mean days between a customer's purchases of it, 365 days"),
    _number("product", "product_repurchase_rate", "Repeats within 28 days a purchase, closed windows, smoothed"),
    _number("product", "product_purchases_per_customer", "(customer, day) purchases a customer"),
    _number("product", "product_units_per_line", "Units a line in 365 days"),
    _number("product", "product_price_last", "Newest unit price, currency units"),
    _number("product", "product_price_last_to_usual", "Newest unit price / mean unit price of 365 days"),
    _number("product", "product_price_spread", "(Highest - lowest) / mean unit price of 365 days"),
    _number("product", "product_return_share", "Returned lines / (lines sold + 1) in 365 days"),
    *(
        _number("product", f"text_hash_{i}", f"Words and word pairs of the description in hash bucket {i}")
        for i in range(TEXT_BUCKETS)
    ),
    _label("product", "category", "Category by the keywords of the description"),
    _label("product", "price_tier", "budget, low, mid, high, premium or unknown, by usual unit price"),
)

_INTERACTION = (
    _number("interaction", "visits_since_pair_purchase", "Customer's purchase days (400 days) after the pair's newest"),
    _number("interaction", "pair_share_of_visits_365d", "Pair's / customer's purchase days in 365 days"),
    _number(
        "interaction", "pair_share_of_visits_since_first", "Pair's / customer's purchase days from the pair's first on"
    ),
    _number(
        "interaction", "recency_pair_to_customer", "(Pair's days + 1) / (customer's days + 1) since the newest purchase"
    ),
    _number("interaction", "gap_pair_to_customer", "Pair's / customer's mean days between purchases"),
    _number("interaction", "pair_recency_to_product_gap", "Pair's recency / the product's mean days between repeats"),
    _number("interaction", "pair_share_of_spend", "Pair's amount / customer's amount, since the first"),
    _number("interaction", "pair_share_of_product", "Pair's / product's (customer, day) purchases"),
    _number("interaction", "pair_rate_by_momentum", "Pair's decayed purchases (60 days) x product momentum (28 days)"),
    _number("interaction", "pair_rate_by_season", "Pair's decayed purchases (180 days) x product season index"),
    _number("interaction", "visit_rate_by_repurchase", "Customer's decayed days (30 days) x product repurchase rate"),
    _number(
        "interaction", "expected_pair_purchases_28d", "Customer's days in 90 days x 28/90 x pair's share of visits"
    ),
    _number("interaction", "price_product_to_customer", "Newest product price / customer's mean unit price"),
    _number("interaction", "price_now_to_paid", "Newest product price / what the pair paid last"),
    _number("interaction", "is_preferred_category", "1 where the product is of the customer's preferred category"),
)

_CALENDAR = (
    _number("calendar", "month", "Month of as_of, 1 to 12"),
    _number("calendar", "week_of_year", "ISO week of as_of, 1 to 53"),
    _number("calendar", "day_of_week", "Day of week of as_of, Monday = 0"),
    _number("calendar", "days_to_christmas", "Days from as_of to the next 25 December"),
    _number("calendar", "christmas_season_share", "Share of the label window that lies in 1 October to 24 December"),
    _number("calendar", "year_sin", "Sine of the day of the year of as_of"),
    _number("calendar", "year_cos", "Cosine of the day of the year of as_of"),
    _number("calendar", "label_middle_sin", "Sine of the day of the year of the label window's middle"),
    _number("calendar", "label_middle_cos", "Cosine of the day of the year of the label window's middle"),
)

PAIR_STEPS, CUSTOMER_STEPS = 8, 12
SEQUENCES: dict[str, tuple[tuple[str, ...], ...]] = {
    "pair": tuple((f"pair_step_{n}_days", f"pair_step_{n}_units") for n in range(1, PAIR_STEPS + 1)),
    "customer": tuple((f"customer_step_{n}_days",) for n in range(1, CUSTOMER_STEPS + 1)),
}
"""Names of each sequence's steps, newest first; the first value of a step is missing where there is no such step."""

_SEQUENCE = (
    *(
        feature
        for n, (days, units) in enumerate(SEQUENCES["pair"], 1)
        for feature in (
            _number("sequence", days, f"Days since the pair's purchase day number {n}, newest first, of 400 days"),
            _number("sequence", units, f"Units bought on the pair's purchase day number {n}"),
        )
    ),
    *(
        _number("sequence", days, f"Days since the customer's purchase day number {n}, newest first, of 400 days")
        for n, (days,) in enumerate(SEQUENCES["customer"], 1)
    ),
)

_TEXT = (_label("text", "description", "The product's newest description"),)

FEATURES: tuple[Feature, ...] = (*_PAIR, *_CUSTOMER, *_PRODUCT, *_INTERACTION, *_CALENDAR, *_SEQUENCE, *_TEXT)
"""All model features: what `evergreen.features.relative.features` gives, in this order."""

AFFINITY = "pair_affinity"
FACTOR_FEATURES: tuple[Feature, ...] = (
    _number(
        "factors",
        AFFINITY,
        "Customer's vector x product's vector: how well the product suits what the customer buys; missing where either "
        "has none",
    ),
)
"""What `evergreen.features.affinity` gives, if `settings.features.factors.enabled`; behind `FEATURES`."""

KNOWN: tuple[Feature, ...] = (*FEATURES, *FACTOR_FEATURES)
"""Every feature that there can be, in the order in which models see them."""

RAW_GROUPS = ("sequence", "text")
"""Groups that only a model with an encoder for them reads; the other groups sum them up."""

NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
CATEGORICAL: tuple[str, ...] = tuple(
    feature.name for feature in FEATURES if feature.kind == "string" and feature.group not in RAW_GROUPS
)
RAW: dict[str, str] = {feature.name: feature.group for feature in FEATURES if feature.group in RAW_GROUPS}
