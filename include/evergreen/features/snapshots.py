"""Snapshots of customers and products: pure functions of the tiles before `as_of`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from evergreen.features.text import OTHER, category, with_text_counts
from evergreen.lake.feature_columns import (
    CUSTOMER_COLUMNS,
    LAGS,
    MEMORY_DAYS,
    PRODUCT_COLUMNS,
    TREND_WINDOWS,
    WINDOWS,
)
from evergreen.settings.prediction import ACTIVE_DAYS

SEASON_AGES = (338, 365)
"""Ages in days of last year's label window `[as_of - 365, as_of - 337)`."""
BEFORE_SEASON_AGES = (366, 393)
CLOSED_REPEAT_AGES = (1, 180)
CLOSED_PURCHASE_AGES = (29, 208)
AMOUNT_CAP = 1_000_000
"""Amounts of a day above so many whole currency units are capped before they are squared."""

_RANGES = (
    *((1, window) for window in WINDOWS),
    *((lag, lag) for lag in LAGS),
    *(SEASON_AGES, BEFORE_SEASON_AGES, CLOSED_REPEAT_AGES, CLOSED_PURCHASE_AGES),
)
BANDS = sorted({edge for youngest, oldest in _RANGES for edge in (youngest - 1, oldest) if edge})
"""Oldest ages of the bands that every window is made of."""
BEYOND = 1_000_000

EPOCH = date(1970, 1, 1)


def customer_snapshots(tiles: DataFrame, as_ofs: Sequence[date], categories: Mapping[str, Sequence[str]]) -> DataFrame:
    """Rows of `customer_features`, one for each customer and `as_of` with a purchase in the 365 days before.

    Args:
        tiles: all rows of `daily_customer` before the newest `as_of`.
        as_ofs: dates, each at 00:00 UTC.
        categories: words of each category, as the tiles were made with.
    """
    past = Window.partitionBy("customer_id").orderBy("day").rowsBetween(Window.unboundedPreceding, -1)
    days = _with_days(tiles).withColumns(
        {
            "purchase_day": sf.when(sf.col("lines") > 0, sf.col("day")),
            "amount": sf.least(sf.expr("amount_minor div 100"), sf.lit(AMOUNT_CAP)),
        }
    )
    since = sf.col("purchase_day") - sf.last("purchase_day", ignorenulls=True).over(past)
    days = days.withColumn("gap", sf.coalesce(since, sf.lit(0).cast("bigint")))
    names = (*categories, OTHER)
    bought, gap, amount = sf.col("purchase_day").isNotNull(), sf.col("gap"), sf.col("amount")
    votes = [f"votes_{index}" for index in range(len(names))]
    measures = {
        "purchases": sf.count("purchase_day"),
        **{name: sf.sum(name) for name in ("lines", "quantity", "amount_minor", "pair_days", "new_pairs")},
        **{name: sf.sum(name) for name in ("repeats", "repeats_28d", "cancellations", "returns")},
        "amount_squares": sf.sum(amount * amount),
        "amount_ages": sf.sum(sf.col("amount_minor") * sf.col("age")),
        "gap_squares": sf.sum(gap * gap),
        "max_gap": sf.max("gap"),
        "first_day": sf.min("purchase_day"),
        "last_day": sf.max("purchase_day"),
        **{vote: sf.sum(sf.col("category_lines")[index]) for index, vote in enumerate(votes)},
    }
    merged = {
        "customer_total_purchases": sf.sum("purchases"),
        "customer_total_lines": sf.sum("lines"),
        "customer_total_quantity": sf.sum("quantity"),
        "customer_total_amount_minor": sf.sum("amount_minor"),
        "customer_total_products": sf.sum("new_pairs"),
        "customer_first_purchase_day": sf.min("first_day"),
        "customer_last_purchase_day": sf.max("last_day"),
        "customer_sum_gap_squares": sf.sum("gap_squares"),
        "customer_max_gap_days": sf.max("max_gap"),
        **_windows(
            "customer_{}_{}d", WINDOWS, "purchases", "lines", "quantity", "amount_minor", "pair_days", "repeats"
        ),
        **_windows("customer_{}_{}d", TREND_WINDOWS, "amount_squares", "amount_ages"),
        **_windows("customer_{}_{}d", (365,), "cancellations", "returns"),
        "customer_closed_repeats": _sum("repeats_28d", CLOSED_REPEAT_AGES),
        "customer_closed_pair_days": _sum("pair_days", CLOSED_PURCHASE_AGES),
        "customer_season_purchases": _sum("purchases", SEASON_AGES),
        "customer_season_lines": _sum("lines", SEASON_AGES),
        "customer_season_amount_minor": _sum("amount_minor", SEASON_AGES),
        **{f"customer_lag_{lag}d": _sum("amount_minor", (lag, lag)) for lag in LAGS},
        **{vote: _sum(vote, (1, 365)) for vote in votes},
    }
    active = _merge(days, as_ofs, "customer_id", measures, merged).where(
        sf.col("customer_last_purchase_day") >= sf.col("as_of") - ACTIVE_DAYS
    )
    visit = sf.when(bought, sf.struct("day", "gap", "country"))
    histories = days.groupBy("customer_id").agg(sf.array_sort(sf.collect_list(visit)).alias("visits"))
    seen = sf.filter("visits", lambda visit: visit.day < sf.col("as_of"))
    recalled = sf.filter("seen.day", lambda day: day >= sf.col("as_of") - MEMORY_DAYS)
    newest = sf.element_at("seen", -1)
    by_name = sorted(names, reverse=True)  # the greatest vote wins; of equal ones the first by alphabet
    ranked = (
        sf.struct(sf.col(vote).alias("votes"), sf.lit(by_name.index(name)).alias("rank"), sf.lit(name).alias("name"))
        for vote, name in zip(votes, names, strict=True)
    )
    found = (
        active.join(histories, "customer_id")
        .withColumn("seen", seen)
        .withColumns(
            {
                "customer_country": newest["country"],
                "customer_last_gap_days": newest["gap"],
                "customer_purchase_days": recalled,
                "customer_preferred_category": sf.array_max(sf.array(*ranked))["name"],
            }
        )
    )
    return _rows(found, "customer_id", [column.name for column in CUSTOMER_COLUMNS])


def product_snapshots(tiles: DataFrame, as_ofs: Sequence[date], categories: Mapping[str, Sequence[str]]) -> DataFrame:
    """Rows of `product_features`, one for each product and `as_of` with a sale in the 365 days before.

    Args:
        tiles: all rows of `daily_product` before the newest `as_of`.
        as_ofs: dates, each at 00:00 UTC.
        categories: words of each category.
    """
    days = _with_days(tiles).withColumn("sale_day", sf.when(sf.col("lines") > 0, sf.col("day")))
    sold, lines = sf.col("sale_day").isNotNull(), sf.col("lines")
    measures = {
        "days": sf.count("sale_day"),
        **{name: sf.sum(name) for name in ("lines", "quantity", "amount_minor", "pair_days", "new_pairs")},
        **{name: sf.sum(name) for name in ("repeats", "repeats_28d", "repeat_gaps", "cancellations", "returns")},
        "line_squares": sf.sum(lines * lines),
        "line_ages": sf.sum(lines * sf.col("age")),
        "first_day": sf.min("sale_day"),
        "last_day": sf.max("sale_day"),
        "min_price_minor": sf.min("min_price_minor"),
        "max_price_minor": sf.max("max_price_minor"),
    }
    merged = {
        "product_total_pair_days": sf.sum("pair_days"),
        "product_total_customers": sf.sum("new_pairs"),
        "product_total_lines": sf.sum("lines"),
        "product_total_quantity": sf.sum("quantity"),
        "product_total_amount_minor": sf.sum("amount_minor"),
        "product_first_day": sf.min("first_day"),
        "product_last_day": sf.max("last_day"),
        **_windows("product_{}_{}d", WINDOWS, "days", "pair_days", "lines", "quantity", "amount_minor", "repeats"),
        **_windows("product_{}_{}d", TREND_WINDOWS, "line_squares", "line_ages"),
        **_windows("product_{}_{}d", (365,), "repeat_gaps", "cancellations", "returns"),
        "product_closed_repeats": _sum("repeats_28d", CLOSED_REPEAT_AGES),
        "product_closed_pair_days": _sum("pair_days", CLOSED_PURCHASE_AGES),
        "product_season_lines": _sum("lines", SEASON_AGES),
        "product_season_pair_days": _sum("pair_days", SEASON_AGES),
        "product_season_before_lines": _sum("lines", BEFORE_SEASON_AGES),
        **{f"product_lag_{lag}d": _sum("lines", (lag, lag)) for lag in LAGS},
        "product_min_price_minor_365d": sf.min(sf.when(sf.col("band") <= 365, sf.col("min_price_minor"))),
        "product_max_price_minor_365d": sf.max(sf.when(sf.col("band") <= 365, sf.col("max_price_minor"))),
    }
    active = _merge(days, as_ofs, "product_id", measures, merged).where(
        sf.col("product_last_day") >= sf.col("as_of") - ACTIVE_DAYS
    )
    newest = days.where(sold).select(
        "product_id",
        sf.col("day").alias("product_last_day"),
        sf.coalesce("description", sf.lit("")).alias("product_description"),
        sf.col("last_price_minor").alias("product_last_price_minor"),
    )
    found = active.join(newest, ["product_id", "product_last_day"])
    described = with_text_counts(
        found.withColumn("product_category", category(sf.col("product_description"), categories)),
        "product_description",
        "product_text_hash_",
    )
    return _rows(described, "product_id", [column.name for column in PRODUCT_COLUMNS])


def _with_days(tiles: DataFrame) -> DataFrame:
    return tiles.withColumn("day", sf.unix_date("event_date").cast("bigint"))


def _merge(
    days: DataFrame,
    as_ofs: Sequence[date],
    entity: str,
    measures: Mapping[str, Column],
    merged: Mapping[str, Column],
) -> DataFrame:
    """Aggregates of an entity's days before each `as_of`, in two steps, since most sums are of the same few rows.

    All aggregates are numbers: texts and lists among them would make Spark sort the rows instead of hashing them.

    Args:
        days: tiles with `day`.
        as_ofs: dates.
        entity: key column.
        measures: aggregates over rows, which have `age` = days before `as_of`; made for each band of ages.
        merged: aggregates of the measures over bands; `band` is the oldest age of a band.
    """
    numbers = sf.array(*(sf.lit((as_of - EPOCH).days).cast("bigint") for as_of in as_ofs))
    spread = days.withColumn("as_of", sf.explode(numbers)).where("as_of > day")
    aged = spread.withColumn("age", sf.col("as_of") - sf.col("day"))
    band = sf.coalesce(*(sf.when(sf.col("age") <= edge, edge) for edge in BANDS), sf.lit(BEYOND))
    bands = aged.groupBy(entity, "as_of", band.alias("band")).agg(*(v.alias(name) for name, v in measures.items()))
    return bands.groupBy(entity, "as_of").agg(*(value.alias(name) for name, value in merged.items()))


def _rows(found: DataFrame, entity: str, names: Sequence[str]) -> DataFrame:
    return found.select(
        entity,
        sf.timestamp_seconds(sf.col("as_of") * 86_400).alias("event_timestamp"),
        *names,
        sf.date_from_unix_date((sf.col("as_of") - 1).cast("int")).alias("event_date"),
    )


def _windows(name: str, windows: Sequence[int], *measures: str) -> dict[str, Column]:
    return {name.format(measure, w): _sum(measure, (1, w)) for measure in measures for w in windows}


def _sum(measure: str, ages: tuple[int, int]) -> Column:
    return sf.sum(sf.when(sf.col("band").between(*ages), sf.col(measure)).otherwise(0)).cast("bigint")
