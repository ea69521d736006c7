"""Matrix factorisation of the purchases before an `as_of`, with Spark's ALS for implicit feedback.

Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (2008): a customer wants what was
bought, and each day with a purchase makes that surer. Snapshots must be the same bytes whoever makes them, while ALS
sums in the order in which its blocks arrive: here it has one block, and the purchases stand in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from evergreen.lake.digest import digest_json
from evergreen.lake.feature_columns import FACTOR_UNIT
from evergreen.settings.features import FactorSettings

VERSION = "factors/1"
"""Version of the factorisation. Raise it where the same purchases give other vectors."""

KEYS = ("customer_id", "product_id")
TABLES = {"customer_factors": "customer_id", "product_factors": "product_id"}
"""Tables of vectors, and whose they are. The column of the vector has the table's name."""


def transform(factors: FactorSettings) -> str:
    """Names what decides the vectors of given purchases."""
    return f"{VERSION}+{digest_json(factors.settled)[:8]}"


def factorise(purchases: DataFrame, as_of: date, factors: FactorSettings) -> dict[str, DataFrame] | None:
    """Rows of `customer_factors` and `product_factors` as of a date.

    Args:
        purchases: `customer_id`, `product_id` and `event_date`, one row for each day on which the pair was bought. Rows
            that do not lie in the `history_days` before `as_of` are passed over.
        as_of: nothing at or after its 00:00 UTC is read.
        factors: rank, penalty, rounds.

    Returns:
        By table, a row for each customer or product with a purchase in that time; None where there was none.
    """
    from pyspark.ml.feature import StringIndexer  # pyspark.ml takes a second to import
    from pyspark.ml.recommendation import ALS

    first, last = as_of - timedelta(days=factors.history_days), as_of - timedelta(days=1)
    seen = purchases.where(sf.col("event_date").between(sf.lit(first), sf.lit(last)))
    counts = seen.groupBy(*KEYS).agg(sf.count("*").cast("float").alias("days")).persist()
    try:
        if counts.isEmpty():
            return None
        numbers = [f"{key}_number" for key in KEYS]
        indexer = StringIndexer(inputCols=list(KEYS), outputCols=numbers, stringOrderType="alphabetAsc").fit(counts)
        numbered = indexer.transform(counts).select(*(sf.col(name).cast("int") for name in numbers), "days")
        model = ALS(
            rank=factors.rank,
            maxIter=factors.iterations,
            regParam=factors.regularisation,
            implicitPrefs=True,
            alpha=factors.alpha,
            seed=factors.seed,
            numUserBlocks=1,
            numItemBlocks=1,
            userCol=numbers[0],
            itemCol=numbers[1],
            ratingCol="days",
        ).fit(numbered.repartition(1).sortWithinPartitions(*numbers))
    finally:
        counts.unpersist()
    vectors = zip(TABLES, indexer.labelsArray, (model.userFactors, model.itemFactors), strict=True)
    return {table: _rows(found, table, labels, as_of) for table, labels, found in vectors}


def _rows(vectors: DataFrame, table: str, labels: Sequence[str], as_of: date) -> DataFrame:
    """A table's rows from the model's `id` and `features`."""
    from pyspark.ml.feature import IndexToString

    key = TABLES[table]
    named = IndexToString(inputCol="id", outputCol=key, labels=list(labels)).transform(vectors)
    return named.select(
        key,
        sf.lit(as_of).cast("timestamp").alias("event_timestamp"),
        sf.transform("features", lambda value: sf.round(value * FACTOR_UNIT).cast("bigint")).alias(table),
        sf.lit(as_of - timedelta(days=1)).alias("event_date"),
    )
