"""Snapshots of customers and products: pure functions of the tiles before `as_of`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from evergreen.features.text import OTHER, category, text_counts
from evergreen.lake.feature_columns import (
    CUSTOMER_COLUMNS,
    LAGS,
    MEMORY_DAYS,
    PRODUCT_COLUMNS,
    TREND_WINDOWS,
    WINDOWS,
)

ACTIVE_DAYS = 365
SEASON_AGES = (338, 365)
"""Ages in days of last year's label window `[as_of - 365, as_of - 337)`."""
BEFORE_SEASON_AGES = (366, 393)
CLOSED_REPEAT_AGES = (1, 180)
CLOSED_PURCHASE_AGES = (29, 208)
AMOUNT_CAP = 1_000_000
"""Amounts of a day above so many whole currency units are capped before they are squared."""

EPOCH = date(1970, 1, 1)


def customer_snapshots(tiles: DataFrame, as_ofs: Sequence[date], categories: Mapping[str, Sequence[str]]) -> DataFrame:
    """Rows of `customer_features`, one for each customer and `as_of` with a purchase in the 365 days before.

    Args:
        tiles: all rows of `daily_customer` before the newest `as_of`.
        as_ofs: dates, each at 00:00 UTC.
        categories: words of each category, as the tiles were made with.
    """
    past = Window.partitionBy("customer_id").orderBy("day").rowsBetween(Window.unboundedPreceding, -1)
    days = tiles.withColumn("day", sf.unix_date("event_date").cast("bigint")).withColumns(
        {
            "purchase_day": sf.when(sf.col("lines") > 0, sf.col("day")),
            "amount": sf.least(sf.expr("amount_minor div 100"), sf.lit(AMOUNT_CAP)),
        }
    )
    days = days.withColumn("gap", sf.col("purchase_day") - sf.last("purchase_day", ignorenulls=True).over(past))
    gap = sf.coalesce("gap", sf.lit(0).cast("bigint"))
    bought = sf.col("purchase_day").isNotNull()
    names = (*categories, OTHER)
    by_name = sorted(names, reverse=True)
    preferred = sf.array_max(
        sf.array(
            *(
                sf.struct(
                    _sum(_within(365), sf.coalesce(sf.col("category_lines")[index], sf.lit(0))).alias("lines"),
                    sf.lit(by_name.index(name)).alias("rank"),  # of equals the first by alphabet
                    sf.lit(name).alias("name"),
                )
                for index, name in enumerate(names)
            )
        )
    )["name"]
    aggregates = {
        "customer_country": sf.max(sf.when(bought, sf.struct("day", "country")))["country"],
        "customer_preferred_category": preferred,
        "customer_purchase_days": sf.array_sort(
            sf.collect_list(sf.when(sf.col("age") <= MEMORY_DAYS, sf.col("purchase_day")))
        ),
        "customer_total_purchases": sf.count("purchase_day"),
        "customer_total_lines": sf.sum("lines"),
        "customer_total_quantity": sf.sum("quantity"),
        "customer_total_amount_minor": sf.sum("amount_minor"),
        "customer_total_products": sf.sum("new_pairs"),
        "customer_first_purchase_day": sf.min("purchase_day"),
        "customer_last_purchase_day": sf.max("purchase_day"),
        "customer_sum_gap_squares": sf.sum(gap * gap),
        "customer_max_gap_days": sf.max(gap),
        "customer_last_gap_days": sf.max(sf.when(bought, sf.struct("day", gap.alias("gap"))))["gap"],
        **_windows("customer_purchases_{}d", WINDOWS, bought.cast("bigint")),
        **_windows("customer_lines_{}d", WINDOWS, sf.col("lines")),
        **_windows("customer_quantity_{}d", WINDOWS, sf.col("quantity")),
        **_windows("customer_amount_minor_{}d", WINDOWS, sf.col("amount_minor")),
        **_windows("customer_amount_squares_{}d", TREND_WINDOWS, sf.col("amount") * sf.col("amount")),
        **_windows("customer_amount_ages_{}d", TREND_WINDOWS, sf.col("amount_minor") * sf.col("age")),
        **_windows("customer_pair_days_{}d", WINDOWS, sf.col("pair_days")),
        **_windows("customer_repeats_{}d", WINDOWS, sf.col("repeats")),
        "customer_closed_repeats": _sum(_between(CLOSED_REPEAT_AGES), sf.col("repeats_28d")),
        "customer_closed_pair_days": _sum(_between(CLOSED_PURCHASE_AGES), sf.col("pair_days")),
        "customer_season_purchases": _sum(_between(SEASON_AGES), bought.cast("bigint")),
        "customer_season_lines": _sum(_between(SEASON_AGES), sf.col("lines")),
        "customer_season_amount_minor": _sum(_between(SEASON_AGES), sf.col("amount_minor")),
        **{f"customer_lag_{lag}d": _sum(sf.col("age") == lag, sf.col("amount_minor")) for lag in LAGS},
        "customer_cancellations_365d": _sum(_within(365), sf.col("cancellations")),
        "customer_returns_365d": _sum(_within(365), sf.col("returns")),
    }
    found = (
        _as_of(days, as_ofs)
        .groupBy("customer_id", "as_of")
        .agg(*(value.alias(name) for name, value in aggregates.items()))
    )
    active = found.where(sf.col("customer_last_purchase_day") >= sf.col("as_of") - ACTIVE_DAYS)
    return _rows(active, "customer_id", [column.name for column in CUSTOMER_COLUMNS])


def product_snapshots(tiles: DataFrame, as_ofs: Sequence[date], categories: Mapping[str, Sequence[str]]) -> DataFrame:
    """Rows of `product_features`, one for each product and `as_of` with a sale in the 365 days before.

    Args:
        tiles: all rows of `daily_product` before the newest `as_of`.
        as_ofs: dates, each at 00:00 UTC.
        categories: words of each category.
    """
    days = tiles.withColumn("day", sf.unix_date("event_date").cast("bigint")).withColumn(
        "sale_day", sf.when(sf.col("lines") > 0, sf.col("day"))
    )
    sold = sf.col("sale_day").isNotNull()
    lines = sf.col("lines")
    described = sf.when(sf.col("description").isNotNull(), sf.struct("day", "description"))
    aggregates = {
        "product_description": sf.coalesce(sf.max(described)["description"], sf.lit("")),
        "product_total_pair_days": sf.sum("pair_days"),
        "product_total_customers": sf.sum("new_pairs"),
        "product_total_lines": sf.sum("lines"),
        "product_total_quantity": sf.sum("quantity"),
        "product_total_amount_minor": sf.sum("amount_minor"),
        "product_first_day": sf.min("sale_day"),
        "product_last_day": sf.max("sale_day"),
        **_windows("product_days_{}d", WINDOWS, sold.cast("bigint")),
        **_windows("product_pair_days_{}d", WINDOWS, sf.col("pair_days")),
        **_windows("product_lines_{}d", WINDOWS, lines),
        **_windows("product_quantity_{}d", WINDOWS, sf.col("quantity")),
        **_windows("product_amount_minor_{}d", WINDOWS, sf.col("amount_minor")),
        **_windows("product_line_squares_{}d", TREND_WINDOWS, lines * lines),
        **_windows("product_line_ages_{}d", TREND_WINDOWS, lines * sf.col("age")),
        **_windows("product_repeats_{}d", WINDOWS, sf.col("repeats")),
        "product_repeat_gaps_365d": _sum(_within(365), sf.col("repeat_gaps")),
        "product_closed_repeats": _sum(_between(CLOSED_REPEAT_AGES), sf.col("repeats_28d")),
        "product_closed_pair_days": _sum(_between(CLOSED_PURCHASE_AGES), sf.col("pair_days")),
        "product_season_lines": _sum(_between(SEASON_AGES), lines),
        "product_season_pair_days": _sum(_between(SEASON_AGES), sf.col("pair_days")),
        "product_season_before_lines": _sum(_between(BEFORE_SEASON_AGES), lines),
        **{f"product_lag_{lag}d": _sum(sf.col("age") == lag, lines) for lag in LAGS},
        "product_last_price_minor": sf.max(sf.when(sold, sf.struct("day", "last_price_minor")))["last_price_minor"],
        "product_min_price_minor_365d": sf.min(sf.when(_within(365), sf.col("min_price_minor"))),
        "product_max_price_minor_365d": sf.max(sf.when(_within(365), sf.col("max_price_minor"))),
        "product_cancellations_365d": _sum(_within(365), sf.col("cancellations")),
        "product_returns_365d": _sum(_within(365), sf.col("returns")),
    }
    found = (
        _as_of(days, as_ofs)
        .groupBy("product_id", "as_of")
        .agg(*(value.alias(name) for name, value in aggregates.items()))
    )
    active = found.where(sf.col("product_last_day") >= sf.col("as_of") - ACTIVE_DAYS)
    description = sf.col("product_description")
    texts = {f"product_text_hash_{index}": count for index, count in enumerate(text_counts(description))}
    described_rows = active.withColumns({"product_category": category(description, categories), **texts})
    return _rows(described_rows, "product_id", [column.name for column in PRODUCT_COLUMNS])


def _as_of(days: DataFrame, as_ofs: Sequence[date]) -> DataFrame:
    """Each row once for every `as_of` after it, with `age` = days before `as_of`, 1 or more."""
    numbers = sf.array(*(sf.lit((as_of - EPOCH).days).cast("bigint") for as_of in as_ofs))
    spread = days.withColumn("as_of", sf.explode(sf.filter(numbers, lambda as_of: as_of > sf.col("day"))))
    return spread.withColumn("age", sf.col("as_of") - sf.col("day"))


def _rows(found: DataFrame, entity: str, names: Sequence[str]) -> DataFrame:
    return found.select(
        entity,
        sf.timestamp_seconds(sf.col("as_of") * 86_400).alias("event_timestamp"),
        *names,
        sf.date_from_unix_date((sf.col("as_of") - 1).cast("int")).alias("event_date"),
    )


def _windows(name: str, windows: Sequence[int], value: Column) -> dict[str, Column]:
    return {name.format(window): _sum(_within(window), value) for window in windows}


def _within(window: int) -> Column:
    return sf.col("age") <= window


def _between(ages: tuple[int, int]) -> Column:
    return sf.col("age").between(*ages)


def _sum(condition: Column, value: Column) -> Column:
    return sf.sum(sf.when(condition, value).otherwise(0)).cast("bigint")
