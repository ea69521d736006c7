"""What a product's description says: its category by keywords, and hashed word counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from evergreen.lake.feature_columns import TEXT_BUCKETS

OTHER = "other"


def category(description: Column, categories: Mapping[str, Sequence[str]]) -> Column:
    """The category of the last known word of a description, `other` where there is none.

    Args:
        description: text column, may be null.
        categories: words (upper case) of each category; a word stands in one category only.
    """
    owner = [(word, name) for name, words in categories.items() for word in words]
    if not owner:
        return sf.lit(OTHER)
    words = "|".join(sorted((word.replace("-", "\\-") for word, _ in owner), key=len, reverse=True))
    # Greedy up to the last match: the head noun stands last.
    found = sf.regexp_extract(sf.upper(description), rf"^.*(?<![A-Z0-9-])({words})(?![A-Z0-9-])", 1)
    names = sf.create_map(*(sf.lit(text) for pair in owner for text in pair))
    return sf.coalesce(sf.try_element_at(names, found), sf.lit(OTHER))


def with_text_counts(rows: DataFrame, description: str, prefix: str) -> DataFrame:
    """Adds `<prefix>0` and so on: how many words and word pairs of a description fall into each hash bucket.

    The bucket is CRC-32 modulo `TEXT_BUCKETS`. Steps are columns of their own, else Spark would split the text anew for
    each use.
    """
    return (
        rows.withColumn("_parts", sf.split(sf.upper(sf.coalesce(description, sf.lit(""))), "[^A-Z0-9]+"))
        .withColumn("_words", sf.filter("_parts", lambda word: word != ""))
        .withColumn("_next", sf.slice("_words", 2, 1000))
        .withColumn(
            "_pairs", sf.zip_with("_words", "_next", lambda a, b: sf.when(b.isNotNull(), sf.concat_ws(" ", a, b)))
        )
        .withColumn("_buckets", sf.transform(sf.concat("_words", "_pairs"), lambda gram: sf.crc32(gram) % TEXT_BUCKETS))
        .withColumns(
            {
                f"{prefix}{index}": sf.size(sf.filter("_buckets", _equals(index))).cast("bigint")
                for index in range(TEXT_BUCKETS)
            }
        )
        .drop("_parts", "_words", "_next", "_pairs", "_buckets")
    )


def _equals(index: int) -> Callable[[Column], Column]:
    return lambda bucket: bucket == index
