"""Tiles: exact sums of a customer's and of a product's day, from which any window is merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from evergreen.features.fold import REPEAT_DAYS
from evergreen.features.text import OTHER, category


def customer_tiles(folded: DataFrame, categories: Mapping[str, Sequence[str]]) -> DataFrame:
    """Rows of `daily_customer` from the result of `fold`."""
    known = folded.where("customer_id IS NOT NULL").withColumn(
        "category", category(sf.col("newest.description"), categories)
    )
    lines = [
        sf.sum(sf.when(sf.col("category") == name, sf.col("lines")).otherwise(0)).cast("bigint")
        for name in (*categories, OTHER)
    ]
    return (
        known.groupBy("customer_id", "day")
        .agg(
            sf.sum("lines").alias("lines"),
            sf.sum("quantity").alias("quantity"),
            sf.sum("amount_minor").alias("amount_minor"),
            *_pair_counts(),
            sf.array(*lines).alias("category_lines"),
            sf.max(sf.struct("newest.event_time", "newest.country"))["country"].alias("country"),
            sf.sum("cancellations").alias("cancellations"),
            sf.sum("returns").alias("returns"),
        )
        .transform(_with_date)
    )


def product_tiles(folded: DataFrame) -> DataFrame:
    """Rows of `daily_product` from the result of `fold`."""
    return (
        folded.groupBy("product_id", "day")
        .agg(
            sf.sum("lines").alias("lines"),
            sf.sum("quantity").alias("quantity"),
            sf.sum("amount_minor").alias("amount_minor"),
            *_pair_counts(),
            sf.sum(sf.coalesce("gap_days", sf.lit(0))).cast("bigint").alias("repeat_gaps"),
            sf.max("newest").alias("newest"),
            sf.min("min_price_minor").alias("min_price_minor"),
            sf.max("max_price_minor").alias("max_price_minor"),
            sf.sum("cancellations").alias("cancellations"),
            sf.sum("returns").alias("returns"),
        )
        .withColumns({"description": sf.col("newest.description"), "last_price_minor": sf.col("newest.price_minor")})
        .drop("newest")
        .transform(_with_date)
    )


def _pair_counts() -> list[Column]:
    gap = sf.col("gap_days")
    return [
        sf.count_if("is_purchase").alias("pair_days"),
        sf.count_if(sf.col("is_purchase") & gap.isNull()).alias("new_pairs"),
        sf.count_if(gap.isNotNull()).alias("repeats"),
        sf.count_if(gap <= REPEAT_DAYS).alias("repeats_28d"),
    ]


def _with_date(tiles: DataFrame) -> DataFrame:
    return tiles.withColumn("event_date", sf.date_from_unix_date(sf.col("day").cast("int"))).drop("day")
