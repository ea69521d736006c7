"""Folds purchase lines into pair state: what a customer's history with a product is after each day.

Everything is exact (64-bit integers and their lists). A state that was stored before enters the fold as one row whose
increments are its totals, so that one bulk fold, daily folds and a fold from a corrected day on leave the same rows.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from evergreen.lake.feature_columns import MEMORY_DAYS, PAIR_COLUMNS
from evergreen.settings.prediction import HORIZON_DAYS

REPEAT_DAYS = HORIZON_DAYS
"""A repeat within so many days counts for repurchase rates."""

SQUARES_CAP = 1_000_000
"""Values above are capped before they are squared: absurd input must not overflow 64 bits."""

PAIR_KEY = ("customer_id", "product_id")


def pair_days(lines: DataFrame) -> DataFrame:
    """Sums of each (customer, product, day) from transaction lines of products; the customer may be null.

    Gives `day` (epoch day) and sums over what was sold; over lines of a known customer that is what the contract calls
    bought. `newest` is the newest line: time, price, description, country, compared in this order.
    """
    sold = sf.col("is_purchase") | (
        sf.col("customer_id").isNull()
        & (sf.col("quantity") > 0)
        & (sf.col("unit_price") > 0)
        & ~sf.col("is_cancellation")
    )
    price = sf.round(sf.col("unit_price") * 100).cast("bigint")
    newest = sf.struct("event_time", price.alias("price_minor"), "description", "country")
    # One shuffle by pair serves this grouping and the windows of the fold.
    return (
        lines.where("is_product")
        .repartition(*PAIR_KEY)
        .groupBy(*PAIR_KEY, sf.unix_date("event_date").cast("bigint").alias("day"))
        .agg(
            sf.count_if(sold).alias("lines"),
            _sum_if(sold, sf.col("quantity")).alias("quantity"),
            _sum_if(sold, sf.col("amount_minor")).alias("amount_minor"),
            sf.max(sf.when(sold, newest)).alias("newest"),
            sf.min(sf.when(sold, price)).alias("min_price_minor"),
            sf.max(sf.when(sold, price)).alias("max_price_minor"),
            sf.count_if(sf.col("is_cancellation")).alias("cancellations"),
            sf.count_if(sf.col("is_return")).alias("returns"),
        )
    )


def fold(days: DataFrame, previous: DataFrame | None = None) -> DataFrame:
    """Adds the pair's state after each day to the rows of `pair_days`.

    Args:
        days: rows of `pair_days`, all from the first day to fold on.
        previous: the newest `pair_features` row of each pair before that day; None where there is no earlier day.

    Returns:
        `days` with the columns of `PAIR_COLUMNS`, `is_purchase` (state is meaningful) and `gap_days` (days since the
        pair's purchase before; null for the first).
    """
    bought = sf.col("customer_id").isNotNull() & (sf.col("lines") > 0)
    units = sf.least(sf.col("quantity"), sf.lit(SQUARES_CAP))
    rows = days.select(
        "*",
        sf.lit(False).alias("is_state"),
        bought.alias("is_purchase"),
        sf.when(bought, sf.col("day")).alias("purchase_day"),
        sf.when(bought, 1).otherwise(0).cast("bigint").alias("purchases"),
        sf.when(bought, sf.array(sf.struct("day", "quantity"))).alias("entries"),
        (units * units).alias("quantity_squares"),
        sf.lit(None).cast("bigint").alias("first_day"),
        sf.lit(0).cast("bigint").alias("state_gap_squares"),
        sf.lit(0).cast("bigint").alias("state_max_gap"),
    )
    if previous is not None:
        rows = rows.unionByName(_as_row(previous), allowMissingColumns=True).repartition(*PAIR_KEY)
    past = Window.partitionBy(*PAIR_KEY).orderBy("day")
    before = past.rowsBetween(Window.unboundedPreceding, -1)
    so_far = past.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    last_before = sf.last("purchase_day", ignorenulls=True).over(before)
    rows = rows.withColumn("gap_days", sf.when(sf.col("is_purchase"), sf.col("day") - last_before))
    gap = sf.coalesce("gap_days", sf.lit(0).cast("bigint"))
    entries = sf.filter(
        sf.flatten(sf.collect_list("entries").over(so_far)), lambda entry: entry.day > sf.col("day") - MEMORY_DAYS
    )
    state = {
        "entries_so_far": entries,
        "pair_total_purchases": sf.sum("purchases").over(so_far),
        "pair_total_lines": sf.sum("lines").over(so_far),
        "pair_total_quantity": sf.sum("quantity").over(so_far),
        "pair_total_amount_minor": sf.sum("amount_minor").over(so_far),
        "pair_sum_quantity_squares": sf.sum("quantity_squares").over(so_far),
        "pair_first_purchase_day": sf.min(sf.coalesce("first_day", "purchase_day")).over(so_far),
        "pair_last_purchase_day": sf.col("day"),
        "pair_sum_gap_squares": sf.sum(gap * gap + sf.col("state_gap_squares")).over(so_far),
        "pair_max_gap_days": sf.max(sf.greatest(gap, sf.col("state_max_gap"))).over(so_far),
        "pair_last_gap_days": gap,
        "pair_last_price_minor": sf.col("newest.price_minor"),
        "pair_min_price_minor": sf.min("min_price_minor").over(so_far),
        "pair_max_price_minor": sf.max("max_price_minor").over(so_far),
    }
    folded = rows.withColumns(state).where("NOT is_state")
    return folded.withColumns(
        {
            "pair_purchase_days": sf.col("entries_so_far.day"),
            "pair_purchase_quantities": sf.col("entries_so_far.quantity"),
        }
    ).drop(
        "is_state",
        "purchase_day",
        "purchases",
        "entries",
        "quantity_squares",
        "first_day",
        "entries_so_far",
        "state_gap_squares",
        "state_max_gap",
    )


def newest_states(history: DataFrame) -> DataFrame:
    """The newest row of each pair of `history` (pair_features)."""
    names = [column.name for column in PAIR_COLUMNS]
    newest = sf.max_by(sf.struct(*names), "pair_last_purchase_day").alias("state")
    return history.groupBy(*PAIR_KEY).agg(newest).select(*PAIR_KEY, "state.*")


def pair_rows(folded: DataFrame) -> DataFrame:
    """Rows of the table `pair_features` from the result of `fold`."""
    return folded.where("is_purchase").select(
        *PAIR_KEY,
        sf.timestamp_seconds((sf.col("day") + 1) * 86_400).alias("event_timestamp"),
        *(column.name for column in PAIR_COLUMNS),
        sf.date_from_unix_date(sf.col("day").cast("int")).alias("event_date"),
    )


def _as_row(previous: DataFrame) -> DataFrame:
    last = sf.col("pair_last_purchase_day")
    return previous.select(
        *PAIR_KEY,
        last.alias("day"),
        sf.lit(True).alias("is_state"),
        sf.lit(False).alias("is_purchase"),
        last.alias("purchase_day"),
        sf.col("pair_total_purchases").alias("purchases"),
        sf.col("pair_total_lines").alias("lines"),
        sf.col("pair_total_quantity").alias("quantity"),
        sf.col("pair_total_amount_minor").alias("amount_minor"),
        sf.col("pair_sum_quantity_squares").alias("quantity_squares"),
        sf.arrays_zip(
            sf.col("pair_purchase_days").alias("day"), sf.col("pair_purchase_quantities").alias("quantity")
        ).alias("entries"),
        sf.col("pair_first_purchase_day").alias("first_day"),
        sf.col("pair_sum_gap_squares").alias("state_gap_squares"),
        sf.col("pair_max_gap_days").alias("state_max_gap"),
        sf.col("pair_min_price_minor").alias("min_price_minor"),
        sf.col("pair_max_price_minor").alias("max_price_minor"),
    )


def _sum_if(condition: Column, value: Column) -> Column:
    return sf.sum(sf.when(condition, value).otherwise(0)).cast("bigint")
